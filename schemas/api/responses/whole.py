"""The fields that every answer of the responses API has, whatever an engine leaves out. Pure.

OpenAI's client library requires them when it checks answers strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Document

REPEATED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""The request's fields that an answer repeats, with the values for those that are not set."""
_NEVER = {"error": None, "incomplete_details": None, "store": False, "background": False}
"""Nothing is stored here, and nothing runs in the background."""


def asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an answer that come from its request."""
    said = {name: request.get(name) for name in REPEATED}
    repeated = {name: REPEATED[name] if value is None else value for name, value in said.items()}
    return {**_NEVER, **repeated}


def fill(response: Document, wanted: Mapping[str, Any]) -> None:
    """Add what is missing, in place. `wanted`: from `asked`. If the answer was cut, its last item
    was cut with it."""
    for name, value in wanted.items():
        response.setdefault(name, value)
    if isinstance(usage := response.get("usage"), dict):
        for name, counts in _COUNTED.items():
            usage[name] = {**dict.fromkeys(counts, 0), **(usage.get(name) or {})}
    items = response.get("output") or []
    for item in items:
        item.setdefault("status", "completed")
    if items and response.get("status") == "incomplete":
        items[-1]["status"] = "incomplete"


_COUNTED = {
    "input_tokens_details": ("cached_tokens", "cache_write_tokens"),
    "output_tokens_details": ("reasoning_tokens",),
}
"""The counts in a usage that are parts of another."""
