"""How chat APIs are told that the assistant message at the end is to be continued.

There are three ways, each with its users: it goes without saying ("last": Groq, OpenRouter,
llama-server), the message says so ("prefix": DeepSeek, Mistral), or the request does ("flag":
vLLM).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def marked(request: Mapping[str, Any], way: str) -> dict[str, Any]:
    """The fields of `request`, whose last message is that of the assistant, to set for it."""
    *before, last = request["messages"]
    if last.get("role") != "assistant":  # nothing was said yet
        return {}
    if way == "prefix":
        return {"messages": [*before, {**last, "prefix": True}]}
    if way == "flag":
        return {"continue_final_message": True, "add_generation_prompt": False}
    return {}
