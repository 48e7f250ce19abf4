"""Says the earlier calls of Anthropic's messages as every template takes them. Pure.

Their input is an object, but small models write others, and clients send them back. llama-server
b11549 passes them on to the template, and many templates fail (measured).
"""

from __future__ import annotations

from typing import Any

from schemas.api import plain

Block = dict[str, Any]


def mend(request: dict[str, Any]) -> bool:
    """A `schemas.api.plain.Mend`."""
    return plain.replaced(request, "messages", lambda messages: map(_message, messages))


def _message(message: Block) -> Block:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": list(map(_block, content))}


def _block(block: Any) -> Any:
    if not isinstance(block, dict) or block.get("type") != "tool_use":
        return block
    return {**block, "input": plain.tool_input(block.get("input"))}
