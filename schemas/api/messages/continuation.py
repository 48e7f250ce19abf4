"""Messages that go on where their stream broke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event, Outline


def may_continue(request: Mapping[str, Any]) -> bool:
    thinks = (request.get("thinking") or {}).get("type", "disabled") != "disabled"
    return not thinks and request["messages"][-1].get("role") != "assistant"


class Continuation:
    """See `schemas.api.base.Continuation`. If a later part does not begin with text, the text block
    of the first part is closed, and the new blocks follow it."""

    thought, begins_anew = "", False

    def __init__(self) -> None:
        self._shift = 0
        self._open = False
        """Whether the first part has begun its block of text."""
        self.closed = False

    def closing(self, outline: Outline, tokens: int) -> list[Event]:
        """Not if a call might have followed, or if a sequence might have ended the text: then only
        the engine knows why it stopped."""
        if not self.closed or not outline.closes:
            return []
        spent = outline.limit is not None and tokens >= outline.limit
        reason = "max_tokens" if spent else "end_turn"
        delta = {"stop_reason": reason, "stop_sequence": None}
        usage = {"output_tokens": tokens}
        ended = {"type": "message_delta", "delta": delta, "usage": usage}
        return [ended, {"type": "message_stop"}]

    def heard(self, event: Event) -> str | None:
        if self.closed:
            return "" if event.get("type") == "ping" else None
        match event.get("type"):
            case "content_block_stop" if self._open:
                self.closed = True
                return ""
            case "message_start" | "ping":
                return ""
            case "content_block_start" if _is_text(event) and not self._open:
                self._open = True
                return str(event["content_block"].get("text") or "")
            case "content_block_delta" if event["delta"].get("type") == "text_delta":
                return str(event["delta"]["text"])
        return None

    def told(self, event: Event, text: str) -> list[Event]:
        match event.get("type"):
            case "message_start":
                return []
            case "content_block_start" if self._open and event["index"] == 0:
                if _is_text(event):
                    return []
                self._shift = 1
                ended = {"type": "content_block_stop", "index": 0}
                return [ended, {**event, "index": 1}]
        if "index" in event:
            return [{**event, "index": event["index"] + self._shift}]
        return [event]


def _is_text(event: Mapping[str, Any]) -> bool:
    return (event.get("content_block") or {}).get("type") == "text"
