"""The events of a message that came as one document. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from schemas.api.base import Document, Event

_DELTAS = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}
"""By the type of a block: the field that grows, and the type of what it grows by."""


def events_of(document: Document) -> list[Event]:
    usage = document.get("usage") or {}
    begun = {**document, "content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {**usage, "output_tokens": 0}  # the event before the last tells them
    found: list[Event] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(document.get("content") or ()):
        found += _of_block(index, block)
    delta = {name: document.get(name) for name in ("stop_reason", "stop_sequence")}
    found.append({"type": "message_delta", "delta": delta, "usage": usage})
    return [*found, {"type": "message_stop"}]


def _of_block(index: int, block: dict[str, Any]) -> Iterator[Event]:
    kind = block.get("type", "")
    empty, deltas = {**block}, list[dict[str, Any]]()
    if kind == "tool_use":
        empty["input"] = {}
        said = orjson.dumps(block.get("input") or {}).decode()
        deltas.append({"type": "input_json_delta", "partial_json": said})
    elif kind in _DELTAS:
        field, delta = _DELTAS[kind]
        empty[field] = ""
        deltas.append({"type": delta, field: block.get(field) or ""})
    # Anthropic sends the signature behind all thoughts.
    if kind == "thinking" and block.get("signature"):
        empty["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    yield from ({"type": "content_block_delta", "index": index, "delta": each} for each in deltas)
    yield {"type": "content_block_stop", "index": index}
