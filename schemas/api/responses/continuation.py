"""Responses that go on where their stream broke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event, Request

_BEGINNINGS = frozenset({"response.created", "response.in_progress", "response.queued"})
_OPENING = frozenset({"response.output_item.added", "response.content_part.added"})
_DELTA = "response.output_text.delta"
_OF_THE_END = frozenset(
    {"status", "output", "usage", "error", "incomplete_details", "completed_at", "model"}
)
"""Fields of a response that its end tells; all others stay as its beginning told them."""


def may_continue(request: Mapping[str, Any]) -> bool:
    """Not with tools: a call would follow the text as an item of its own."""
    said = request["input"]
    begun = isinstance(said, list) and said[-1].get("role") == "assistant"
    return not (begun or request.get("tools") or request.get("top_logprobs"))


def with_beginning(request: Request, text: str) -> Request:
    before = request["input"]
    items = [{"role": "user", "content": before}] if isinstance(before, str) else before
    said = [{"role": "assistant", "content": text}] if text else []
    return {**request, "input": [*items, *said]}


class Continuation:
    """See `schemas.api.base.Continuation`. The item and the part with the text are opened once, all
    events are numbered through, and the events at the end repeat the whole text."""

    thoughts = False

    def __init__(self) -> None:
        self._first: Event = {}
        """The response as its first event described it."""
        self._item = ""
        self._opened = set[str]()
        self._number = -1
        self._before = self._rest = ""
        """The text of the parts before the present one, and of what has come of that."""

    def heard(self, event: Event) -> str | None:
        kind = str(event.get("type"))
        self._number = max(self._number, int(event.get("sequence_number", -1)))
        if kind in _BEGINNINGS:
            self._first = self._first or event["response"]
            return ""
        if kind in _OPENING and _is_text(event):
            self._opened.add(kind)
            self._item = self._item or str((event.get("item") or event).get("id") or "")
            return ""
        return str(event["delta"]) if kind == _DELTA else None

    def told(self, event: Event, text: str) -> list[Event]:
        kind = str(event.get("type"))
        if text != self._before:
            self._before, self._rest = text, ""
        if kind == _DELTA:
            self._rest += event["delta"]
        if kind in _BEGINNINGS or (kind in self._opened and _is_text(event)):
            return []
        if "sequence_number" in event:
            self._number += 1
            event["sequence_number"] = self._number
        if self._item and "item_id" in event:
            event["item_id"] = self._item
        match event:
            case {"type": "response.output_text.done"}:
                event["text"] = self._whole(event["text"])
            case {"part": {"type": "output_text"}}:
                self._complete(event["part"])
            case {"item": {"type": "message"}}:
                self._end_item(event["item"])
            case {"response": {}}:
                for item in event["response"].get("output") or ():
                    if item.get("type") == "message":
                        self._end_item(item)
                kept = {n: v for n, v in self._first.items() if n not in _OF_THE_END}
                event["response"] = {**event["response"], **kept}
        return [event]

    def _end_item(self, item: Event) -> None:
        item["id"] = self._item or item.get("id")
        for part in item.get("content") or ():
            if part.get("type") == "output_text":
                self._complete(part)

    def _complete(self, part: Event) -> None:
        part["text"] = self._whole(part.get("text") or "")

    def _whole(self, said: str) -> str:
        """llama-server repeats the beginning at the end; others say what followed it alone."""
        return said if said == self._before + self._rest else self._before + said


def _is_text(event: Mapping[str, Any]) -> bool:
    return (event.get("item") or {}).get("type") == "message" or (
        (event.get("part") or {}).get("type") == "output_text"
    )
