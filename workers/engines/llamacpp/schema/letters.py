"""Sets of letters as ranges of code points, and their form in a grammar of JSON. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby

Ranges = tuple[tuple[int, int], ...]
"""Sorted ranges without overlap; each includes both of its ends."""

LAST = 0x10FFFF
ALL: Ranges = ((0, LAST),)
_ASCII, _LATIN, _LONG = 0x7F, 0x24F, 0xFFFF
_RAW: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0x80, 0xD7FF), (0xE000, LAST))
"""Letters that a JSON string holds without an escape."""
_ESCAPED = {'"': '"', "\\": "\\\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_MOST = 100
"""Most ranges of one property, Latin and large ones first: the grammar tries all for a letter."""
_GROUPS = {
    "Letter": "L",
    "Alphabetic": "L",
    "Uppercase_Letter": "Lu",
    "Uppercase": "Lu",
    "Lowercase_Letter": "Ll",
    "Lowercase": "Ll",
    "Mark": "M",
    "Number": "N",
    "Decimal_Number": "Nd",
    "Punctuation": "P",
    "Symbol": "S",
    "Separator": "Z",
}


def union(*sets: Iterable[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for first, last in sorted(each for one in sets for each in one):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def complement(ranges: Ranges) -> Ranges:
    found, at = [], 0
    for first, last in ranges:
        if first > at:
            found.append((at, first - 1))
        at = last + 1
    return (*found, (at, LAST)) if at <= LAST else tuple(found)


def common(one: Ranges, other: Ranges) -> Ranges:
    return complement(union(complement(one), complement(other)))


def of(letters: str) -> Ranges:
    return union((ord(letter), ord(letter)) for letter in letters)


DIGITS = union([(0x30, 0x39)])
WORDS = union(DIGITS, [(0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
# White space and line ends, as ECMA-262 has them.
SPACES = union(of("\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"), [(0x2000, 0x200A)])
DOT = complement(of("\n\r\u2028\u2029"))


@lru_cache(64)
def category(name: str) -> Ranges | None:
    r"""The main ranges of ``\p{…}`` in the first plane; None if the name is unknown."""
    name = name.rpartition("=")[2] if name.startswith(("gc=", "General_Category=")) else name
    code = _GROUPS.get(name, name)
    if len(code) > 2:
        return None
    kinds = (unicodedata.category(chr(point)).startswith(code) for point in range(_LONG + 1))
    found, at = [], 0
    for inside, points in groupby(kinds):
        end = at + sum(1 for _ in points)
        if inside:
            found.append((at, end - 1))
        at = end
    largest = sorted(found, key=lambda each: (each[0] > _LATIN, each[0] - each[1]))[:_MOST]
    return tuple(sorted(largest)) or None


def other_case(ranges: Ranges) -> Ranges:
    """The ranges, with ASCII letters in both cases."""
    small = common(ranges, ((0x61, 0x7A),))
    big = common(ranges, ((0x41, 0x5A),))
    # In ASCII, the two cases of a letter are 32 apart.
    turned = [(a - 32, b - 32) for a, b in small] + [(a + 32, b + 32) for a, b in big]
    return union(ranges, turned)


def written(ranges: Ranges) -> str:
    """A group for one of these letters inside a JSON string; "" if the grammar can express none."""
    raw = common(ranges, _RAW)
    ways = []
    if raw and raw[-1][1] == LAST:  # nearly all letters: those that are missing are fewer
        ways.append(f"[^{''.join(_said(complement(raw)))}]")
    elif raw:
        ways.append(f"[{''.join(_said(raw))}]")
    escapes = [said for letter, said in _ESCAPED.items() if common(ranges, of(letter))]
    if escapes:
        ways.append(rf"[\\][{''.join(escapes)}]")
    return ways[0] if len(ways) == 1 and not escapes else f"({'|'.join(ways)})" if ways else ""


def _said(ranges: Ranges) -> Iterator[str]:
    for first, last in ranges:
        yield _point(first) if first == last else f"{_point(first)}-{_point(last)}"


def _point(point: int) -> str:
    if chr(point).isalnum() and point <= _ASCII:
        return chr(point)
    if point <= _ASCII:
        return f"\\x{point:02X}"
    return f"\\u{point:04X}" if point <= _LONG else f"\\U{point:08X}"
