"""Responses that go on where their stream broke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event, Outline, Request

_BEGINNINGS = frozenset({"response.created", "response.in_progress", "response.queued"})
_OPENING = frozenset({"response.output_item.added", "response.content_part.added"})
_DELTA = "response.output_text.delta"
_TEXT, _PART, _ITEM = (
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
)
_PLACE = ("output_index", "item_id", "content_index")
_CLOSING = (_TEXT, _PART, _ITEM)
"""What says that a text is whole, in this order."""
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

    thought, begins_anew = "", False

    def __init__(self) -> None:
        self._first: Event = {}
        """The response as its first event described it."""
        self._item = ""
        self._opened = set[str]()
        self._ends: list[Event] = []
        """Of `_CLOSING`, what the client has."""
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
        if len(self._ends) < len(_CLOSING) and kind == _CLOSING[len(self._ends)]:
            self._ends.append(event)
            return ""
        return str(event["delta"]) if kind == _DELTA and not self._ends else None

    @property
    def closed(self) -> bool:
        return bool(self._ends)

    def closing(self, outline: Outline, tokens: int) -> list[Event]:
        if not self._ends:
            return []
        text, *others = self._ends
        place: Event = {name: text[name] for name in _PLACE if name in text}
        part: Event = {
            "type": "output_text",
            "annotations": [],
            "logprobs": [],
            "text": text["text"],
        }
        if others:
            part = others[0]["part"]
        spent = outline.limit is not None and tokens >= outline.limit
        status = "incomplete" if spent else "completed"
        item: Event = {"type": "message", "id": self._item, "role": "assistant", "status": status}
        item["content"] = [part]
        if len(others) > 1:
            item = others[1]["item"]
        of_item: Event = {name: place[name] for name in _PLACE[:1] if name in place}
        missing: list[Event] = [
            {"type": _PART, **place, "part": part},
            {"type": _ITEM, **of_item, "item": item},
            {"type": f"response.{item['status']}", "response": self._ended(item)},
        ]
        return [self._numbered(event) for event in missing[len(others) :]]

    def _ended(self, item: Event) -> Event:
        why = {"reason": "max_output_tokens"} if item["status"] == "incomplete" else None
        about: Event = {"status": item["status"], "incomplete_details": why, "usage": None}
        return {**self._first, **about, "output": [item]}

    def _numbered(self, event: Event) -> Event:
        if self._number < 0:
            return event
        self._number += 1
        return {**event, "sequence_number": self._number}

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
