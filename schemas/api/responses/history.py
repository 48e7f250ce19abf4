"""Says the earlier items of a response's input as every engine takes them. Pure.

Measured on llama-server b11549: it takes texts only as `output_text` from the assistant, and as
`input_text` from all others. It knows an item of a call only by arguments that are text, and an
item of a result only by an output that is not null.
"""

from __future__ import annotations

from typing import Any

from schemas.api import plain

Item = dict[str, Any]

SAID, TOLD = "output_text", "input_text"


def mend(request: dict[str, Any]) -> bool:
    """A `schemas.api.plain.Mend`."""
    return plain.replaced(request, "input", lambda items: map(_item, items))


def text_type(item: Item) -> str:
    """The type of the texts in a message."""
    return SAID if item.get("role") == "assistant" else TOLD


def _item(item: Item) -> Item:
    match item.get("type"):
        case "function_call":
            return {**item, "arguments": plain.arguments(item.get("arguments"))}
        case "function_call_output":
            return {**item, "output": plain.texts(item.get("output"), TOLD) or ""}
        case None | "message" if "role" in item:
            content = plain.texts(item.get("content"), text_type(item))
            said_nothing = item["role"] == "assistant" and not content
            return {**item, "content": "" if said_nothing else content}
    return item
