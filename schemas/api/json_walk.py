"""What a walk over the brackets of a JSON text goes by (`schemas/api/piecewise.py`). Pure."""

from __future__ import annotations

import re
from typing import Any

TOKEN = re.compile(
    rb'(?:(?:[^][{}",]++|"(?:[^"\\]++|\\.)*+")*+,)++|"(?:[^"\\]++|\\.)*+"'
    rb'|[\[{](?:[^][{}"]++|"(?:[^"\\]++|\\.)*+")*+[\]}]|[][{}"]|[^][{}",]++',
    re.DOTALL,
)
"""All up to the last of several commas; a string; a list or object with none inside; another
bracket, or the quote of a string that ends behind the piece; what has none of these. Possessive, so
that nothing is looked at more than a few times."""
SPACE = re.compile(rb"[ \t\n\r]*+")
KEY = re.compile(rb'[ \t\n\r]*+("(?:[^"\\]++|\\.)*+")[ \t\n\r]*+:[ \t\n\r]*+', re.DOTALL)
WORD = re.compile(rb"[-+.\w]{1,1024}")
UNITS = re.compile(
    rb'(?:[^"\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}'
    rb"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u])*+",
    re.DOTALL,
)
"""The part of a string that ends in no escape, nor between the two that are one character."""
OPENS, CLOSES = b"[{", b"]}"


class Open:
    """A list or object that is being read. `key`: under which its holder has it. `fresh`: it has no
    entry yet. `due`: a comma has come, so an entry must."""

    __slots__ = ("due", "fresh", "key", "values")

    def __init__(self, bracket: int, key: str | None) -> None:
        self.values: Any = [] if bracket == OPENS[0] else {}
        self.key = key
        self.fresh, self.due = True, False

    @property
    def is_object(self) -> bool:
        return isinstance(self.values, dict)

    @property
    def takes_entry(self) -> bool:
        return self.fresh or self.due


class Window:
    """What the walk has seen between `start` and where it is. `opens`: brackets that it has seen no
    end of. `cuts`: the last comma inside each of these, and before the first; -1 for none. `seen`:
    brackets in all, and `marks`: before each cut."""

    __slots__ = ("cuts", "marks", "opens", "seen", "start")

    def __init__(self, start: int) -> None:
        self.start, self.seen = start, 0
        self.opens = list[int]()
        self.cuts, self.marks = [-1], [0]

    def opened(self, at: int) -> None:
        self.seen += 1
        self.opens.append(at)
        self.cuts.append(-1)
        self.marks.append(self.seen)

    def closed(self) -> bool:
        """Whether that was one of `opens`."""
        if not self.opens:
            return False
        del self.opens[-1], self.cuts[-1], self.marks[-1]
        return True

    def comma(self, at: int) -> None:
        self.cuts[-1], self.marks[-1] = at, self.seen


def entries(found: Any) -> int:
    """How many there are in all lists and objects of what was read."""
    count, inner = 0, [found]
    while inner:
        each = inner.pop()
        count += len(each)
        values = each.values() if isinstance(each, dict) else each
        inner += [value for value in values if isinstance(value, list | dict)]
    return count
