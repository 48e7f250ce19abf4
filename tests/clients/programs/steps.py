"""What the programs in Python share: where to ask, and one line of JSON for each step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

URL = os.environ["HEADRACE_URL"]
KEY = os.environ["HEADRACE_KEY"]
MODEL = os.environ["HEADRACE_MODEL"]
CLAUDE = "claude-sonnet-4-5-20250929"
"""For libraries that take only Anthropic's names: a route for all names leads to the model."""
EMBEDDER = os.environ["HEADRACE_EMBEDDER"]
QUESTION = "What is the weather in Oslo?"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def weather(city: str) -> str:
    return f"{os.environ['HEADRACE_MARK']} in {city}"


def step(name: str, want: str, run: Callable[[], Any]) -> None:
    """`want`: "mark" if the answer has to repeat what the tool said, "words" if any will do."""
    try:
        said = {"got": str(run())}
    except Exception as fault:
        why = f"{fault} {fault.__cause__ or ''}".strip()
        said = {"fault": f"{type(fault).__name__}: {why}"}
    print(json.dumps({"step": name, "want": want, **said}), flush=True)
