"""Where in a JSON text a parser stopped, for messages: parsers tell a column, clients want a name.

Runs only for bodies that are refused. Looks no further than `LOOKED_AT` characters, which takes
0.1 s at worst (measured), and names no place beyond them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

LOOKED_AT = 2**17
_NAMED, _LONGEST = 8, 64
"""Levels that a name has at most, and letters of each key."""
# The last quote is optional, because the text may end inside a string.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)


@dataclass(slots=True)
class _Level:
    """An open object or list. `at`: the key or index of what is read now; None before a key."""

    at: str | int | None
    keys: set[str] = field(default_factory=set)


def last_place(text: str) -> str | None:
    """The name of the value in which `text` ends, like ``messages[0].content``."""
    if len(text) > LOOKED_AT:
        return None
    found = deque(_walk(text), maxlen=1)
    return _name(found[0][0]) if found else None


def first_deeper(text: str, depth: int) -> str | None:
    """The name of the first value that is nested deeper than `depth`."""
    return next((_name(levels) for levels, _ in _walk(text) if len(levels) > depth), None)


def first_repeated(text: str) -> str | None:
    """The name of the first key that its object has twice."""
    return next((_name(levels) for levels, repeated in _walk(text) if repeated), None)


def _walk(text: str) -> Iterator[tuple[list[_Level], bool]]:
    """After each token the open levels, and whether it was a key that its object has already."""
    levels: list[_Level] = []
    for token in _TOKEN.finditer(text, 0, LOOKED_AT):
        repeated = False
        match token[0]:
            case "{":
                levels.append(_Level(None))
            case "[":
                levels.append(_Level(0))
            case "}" | "]":
                del levels[-1:]  # unlike pop(), nothing happens if there was no bracket to close
            case _ if levels:
                repeated = _next(levels[-1], token[0])
        yield levels, repeated


def _next(level: _Level, read: str) -> bool:
    """Go on within a level. Whether what was `read` is a key for the second time."""
    if read == ",":
        level.at = level.at + 1 if isinstance(level.at, int) else None
    elif level.at is None:
        level.at = read[1:-1]
        repeated = level.at in level.keys
        level.keys.add(level.at)
        return repeated
    return False


def _name(levels: list[_Level]) -> str | None:
    steps = [level.at for level in levels[:_NAMED] if level.at is not None]
    named = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step[:_LONGEST]}" for step in steps
    )
    return named.removeprefix(".") or None
