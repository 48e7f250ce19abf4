"""Which engine has which prompts in its cache, as far as answers have told. Pure.

An engine that has answered a request keeps the prompt in the slot that worked on it, until others
need the room. `CacheMap` remembers of each engine the prompts that came last, as many as it has
room for, by their marks (`marks.py`). The next turn of a conversation takes the place of the turn
before, as it does at the engine.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ingress.models.marks import length

FIRST, LAST = 8, 16
"""Marks of a prompt that are remembered: those at its beginning, which others share, and those at
its end, which its next turn has."""
MOST_MARKS = 100_000
"""Marks of all prompts that are remembered, at some 300 bytes each (measured)."""
MOST_FOUND = 8
"""Engines that are looked for."""


class Place(NamedTuple):
    """One engine of one process."""

    holder: str
    engine: str


@dataclass(frozen=True, slots=True)
class _Prompt:
    marks: tuple[int, ...]
    tokens: int


@dataclass(slots=True)
class _Kept:
    """What one engine has. `prompts`: by the last mark, the oldest first. `marks`: of how many of
    them each is a mark. `tokens`: of all."""

    prompts: OrderedDict[int, _Prompt] = field(default_factory=OrderedDict)
    marks: dict[int, int] = field(default_factory=dict)
    tokens: int = 0


class Found(NamedTuple):
    """`size`: how many bytes of a prompt are at `place`. `ended`: there the prompt ended before, so
    that its answer is there, too."""

    place: Place
    size: int
    ended: bool


def short(marks: Sequence[int]) -> tuple[int, ...]:
    """The marks of a prompt that are remembered."""
    if len(marks) <= FIRST + LAST:
        return tuple(marks)
    return (*marks[:FIRST], *marks[-LAST:])


class CacheMap:
    """`most`: marks that are remembered at most."""

    def __init__(self, most: int = MOST_MARKS) -> None:
        self._most = most
        self._kept: dict[Place, _Kept] = {}
        self._holders: dict[int, tuple[Place, ...]] = {}
        """By mark: who has a prompt with it."""
        self._size = 0

    def __len__(self) -> int:
        """How many marks are remembered."""
        return self._size

    def tokens(self, place: Place) -> int:
        """How many tokens an engine is taken to have."""
        return self._kept[place].tokens if place in self._kept else 0

    def learn(self, place: Place, marks: Sequence[int], tokens: int, room: int) -> None:
        """`place` has worked on a prompt with these marks. `room`: tokens that it can keep."""
        kept = self._kept.get(place)
        if kept is None:
            kept = self._kept[place] = _Kept()
        for mark in marks:
            if mark in kept.prompts:  # a turn before this one, or this one itself
                self._drop(place, kept, mark)
        marks = short(marks)
        while kept.prompts and (
            kept.tokens + tokens > room or self._size + len(marks) > self._most
        ):
            self._drop(place, kept, next(iter(kept.prompts)))
        if not marks or tokens > room or self._size + len(marks) > self._most:
            self._end(place, kept)
            return
        kept.prompts[marks[-1]] = _Prompt(marks, tokens)
        kept.tokens += tokens
        self._size += len(marks)
        for mark in marks:
            if kept.marks.setdefault(mark, 0) == 0:
                self._holders[mark] = (*self._holders.get(mark, ()), place)
            kept.marks[mark] += 1

    def find(self, marks: Sequence[int]) -> list[Found]:
        """The engines that have the beginning of a prompt, those with the most of it first."""
        found: dict[Place, Found] = {}
        for mark in reversed(marks):
            for place in self._holders.get(mark, ()):
                if place not in found:
                    ended = mark in self._kept[place].prompts
                    found[place] = Found(place, length(mark), ended)
            if len(found) >= MOST_FOUND:
                break
        return list(found.values())

    def at(self, place: Place, marks: Sequence[int]) -> Found | None:
        """What an engine has of a prompt; None if nothing."""
        if (kept := self._kept.get(place)) is not None:
            for mark in reversed(marks):
                if mark in kept.marks:
                    return Found(place, length(mark), mark in kept.prompts)
        return None

    def lacks(self, place: Place, marks: Sequence[int]) -> None:
        """An engine did not have what it was taken to have of a prompt: so it has forgotten the
        prompts with that beginning, and all that came before them."""
        kept = self._kept.get(place)
        mark = next((m for m in reversed(marks) if kept and m in kept.marks), None)
        if kept is None or mark is None:
            return
        having = [last for last, prompt in kept.prompts.items() if mark in prompt.marks]
        for last in list(kept.prompts):
            if not having:
                break
            if last in having:
                having.remove(last)
            self._drop(place, kept, last)
        self._end(place, kept)

    def leave(self, place: Place) -> None:
        """The engine is gone, or was begun anew."""
        if (kept := self._kept.get(place)) is not None:
            for last in list(kept.prompts):
                self._drop(place, kept, last)
            self._end(place, kept)

    def _drop(self, place: Place, kept: _Kept, last: int) -> None:
        prompt = kept.prompts.pop(last)
        kept.tokens -= prompt.tokens
        self._size -= len(prompt.marks)
        for mark in prompt.marks:
            kept.marks[mark] -= 1
            if not kept.marks[mark]:
                del kept.marks[mark]
                self._unlist(mark, place)

    def _unlist(self, mark: int, place: Place) -> None:
        left = tuple(each for each in self._holders[mark] if each != place)
        if left:
            self._holders[mark] = left
        else:
            del self._holders[mark]

    def _end(self, place: Place, kept: _Kept) -> None:
        if not kept.prompts:
            self._kept.pop(place, None)
