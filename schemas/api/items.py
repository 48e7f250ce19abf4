"""What the responses and messages APIs share: an answer is a list of items, and some items are
tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.api.base import Document, Event


@dataclass(frozen=True, slots=True)
class Items:
    """`number`: the field of an event that holds the item's place. `begins`: the type of the event
    that begins an item. `item`: the field of that event with the item. `call`: the type of an item
    that is a tool call."""

    number: str
    begins: str
    item: str
    call: str


class FirstCall:
    """See `schemas.api.base.FirstCall`. Items behind a removed item move up."""

    def __init__(self, items: Items) -> None:
        self.begun = False
        self._items = items
        self._first: Any = None
        self._left_out: set[int] = set()
        self._missing = 0

    def change(self, event: Event) -> Event | None:
        place: Any = event.get(self._items.number)
        # Only the event that begins an item says what it is; the later ones have its place alone.
        if event.get("type") == self._items.begins and self._is_call(event[self._items.item]):
            self._first = place if self._first is None else self._first
            if place != self._first:
                self._left_out.add(place)
                self.begun = True
        if place in self._left_out:
            self._missing += 1
            return None
        if isinstance(place, int):
            event[self._items.number] = place - sum(other < place for other in self._left_out)
        if "sequence_number" in event:  # clients may check that it has no gaps
            event["sequence_number"] -= self._missing
        self.document(event.get("response") or {})  # the last event repeats the whole response
        return event

    def document(self, found: Document) -> None:
        for name in ("output", "content"):
            if isinstance(items := found.get(name), list):
                found[name] = list(self._of_one(items))

    def _of_one(self, items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        called = False
        for item in items:
            if not (self._is_call(item) and called):
                yield item
            called = called or self._is_call(item)

    def _is_call(self, item: dict[str, Any]) -> bool:
        return item.get("type") == self._items.call
