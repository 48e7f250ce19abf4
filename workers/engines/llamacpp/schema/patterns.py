r"""Rewrites a pattern of ECMA-262 for llama-server's grammar. Pure.

Measured on b11549: llama-server silently ignores a pattern with ``\d``, ``\w``, ``\s`` or
``(?<name>…)``, or without anchors. ``.`` and ``[^…]`` let a quote through, which breaks the JSON.
An empty group, and ``{3,2}``, make the server crash or hang. So this module parses a pattern and
writes it with what is known to work: groups, sets and repetitions of letters as JSON writes them.
"""

from __future__ import annotations

import re
from dataclasses import replace

from workers.engines.llamacpp.schema import letters
from workers.engines.llamacpp.schema.ahead import without_looks
from workers.engines.llamacpp.schema.letters import Ranges
from workers.engines.llamacpp.schema.parts import (
    ANYTHING,
    END,
    ENDLESS,
    START,
    Ahead,
    Edge,
    Either,
    Letter,
    Part,
    Times,
    Unsaid,
    Way,
)

MOST = 2000
"""Most repetitions that the grammar takes."""
_KNOWN: dict[str, Ranges] = {"d": letters.DIGITS, "w": letters.WORDS, "s": letters.SPACES}
_CONTROL = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "0": "\0"}
_CODE = re.compile(r"u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})")
_PROPERTY = re.compile(r"([pP])\{([\w=]+)\}")
_GROUP = re.compile(r"\((?:\?(?:P?<(?![=!])\w+>|i?:))?")
_LOOK = re.compile(r"\(\?(<?[=!])|\\[bB]")
_TIMES = re.compile(r"([*+?]|\{(\d+)(,(\d*))?\})\??")
_PLAIN = re.compile(r"[^\\^$.|?*+()\[\]{}]|[\]}]")


class Empty(Unsaid):
    """Only the empty text fits."""


def rewrite(pattern: str, least: int = 0, most: int = ENDLESS) -> str:
    """The pattern for a text of `least` to `most` letters. Only a pattern of one repeated letter
    can enforce this length. Raises Unsaid."""
    try:
        whole = _whole(without_looks(_Reader(pattern).read()))
    except RecursionError:
        raise Unsaid("nested too deeply") from None
    match whole.ways:
        case ((Times(Letter()) as only,),):
            fewest, largest = max(only.least, least), min(only.most, most)
            if fewest <= largest:
                whole = Either(((replace(only, least=fewest, most=largest),),))
    said, _ = _said(whole)
    if not said:
        raise Empty("nothing but the empty text fits")
    return f"^{said}$"


def _whole(found: Either) -> Either:
    """The pattern for the whole text: without an anchor, anything may come before or after."""
    return Either(tuple(_anchored(way) for way in found.ways))


def _anchored(way: Way) -> Way:
    match way:
        case (Either() as inner,):
            return (_whole(inner),)
    start = next((at for at, part in enumerate(way) if part != START), len(way))
    end = next((at for at, part in enumerate(reversed(way)) if part != END), len(way))
    before = () if start else (ANYTHING,)
    after = () if end else (ANYTHING,)
    return (*before, *way[start : len(way) - end], *after)


def _said(part: Part) -> tuple[str, int]:
    """The part in the grammar's form, and the least number of rules that it takes; "" for an empty
    part. Raises Unsaid."""
    match part:
        case Letter(ranges):
            if not (said := letters.written(ranges)):
                raise Unsaid("no such letter")
            return said, 1
        case Either(ways):
            return _either(ways)
        case Times(inner, least, most):
            return _times(inner, least, most)
    raise Unsaid("an anchor in the middle")


def _either(ways: tuple[Way, ...]) -> tuple[str, int]:
    said, size, empty = [], 0, False
    for way in ways:
        try:
            parts = [_said(part) for part in way]
        except Unsaid:
            if len(ways) == 1:
                raise
            continue  # the other ways are still right
        text = "".join(each for each, _ in parts)
        said += [text] if text else []
        empty = empty or not text
        size += sum(each for _, each in parts)
    if not said and not empty:
        raise Unsaid("none of the ways can be said")
    joined = f"({'|'.join(said)})" if said else ""
    return f"{joined}?" if empty and said else joined, size


def _times(inner: Part, least: int, most: int) -> tuple[str, int]:
    said, size = _said(inner)
    if least > most or size * max(1, least) > MOST:
        raise Unsaid("too many repetitions")
    if most == 0 or not said:
        return "", 0
    # A sign behind the "?" would be read together with it.
    said = f"({said})" if said[-1] == "?" else said
    match least, most:
        case 1, 1:
            return said, size
        case 0, 1:
            return f"{said}?", size
        case ((0 | 1), _) if most == ENDLESS:
            return said + "*+"[least], size
    upper = "" if most == ENDLESS else str(min(most, MOST))
    return f"{said}{{{least},{upper}}}", size * max(1, least)


class _Reader:
    """Parses a pattern. Raises Unsaid for syntax that it does not know."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._folds = self._took("(?i)")

    def read(self) -> Either:
        found = self._either()
        if self._at < len(self._text):
            raise Unsaid("a bracket that closes nothing")
        return found

    def _took(self, text: str) -> bool:
        taken = self._text.startswith(text, self._at)
        self._at += len(text) * taken
        return taken

    def _match(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        found = wanted.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _either(self) -> Either:
        ways = [self._way()]
        while self._took("|"):
            ways.append(self._way())
        return Either(tuple(ways))

    def _way(self) -> Way:
        parts: list[Part] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            part = self._part()
            times = None if isinstance(part, Edge) else self._match(_TIMES)
            parts.append(_repeated(part, times) if times else part)
        return tuple(parts)

    def _part(self) -> Part:
        if look := self._match(_LOOK):
            return self._look(look[1])
        if group := self._match(_GROUP):
            return self._group(group[0])
        for sign, part in (("^", START), ("$", END), (".", Letter(letters.DOT))):
            if self._took(sign):
                return part
        if self._took("["):
            return self._letter(self._set())
        if self._took("\\"):
            return self._letter(self._escape())
        if plain := self._match(_PLAIN):
            return self._letter(letters.of(plain[0]))
        raise Unsaid("a sign that says nothing")

    def _group(self, opened: str) -> Either:
        if self._text.startswith("?", self._at):
            raise Unsaid("a group of a kind that is not known")
        folds, self._folds = self._folds, self._folds or "i" in opened[1:3]
        found = self._either()
        self._folds = folds
        if not self._took(")"):
            raise Unsaid("a bracket is open")
        return found

    def _look(self, sign: str) -> Ahead:
        """Read on after ``(?=`` and the like, or ``\\b``."""
        if not sign:
            return Ahead(None, wanted=True)
        found = self._group("")
        return Ahead(None if "<" in sign else found, wanted="=" in sign)

    def _letter(self, ranges: Ranges) -> Letter:
        return Letter(letters.other_case(ranges) if self._folds else ranges)

    def _escape(self, inside: bool = False) -> Ranges:
        """Read on after the backslash."""
        if code := self._match(_CODE):
            return self._point(int(code[1] or code[2] or code[3], 16))
        if named := self._match(_PROPERTY):
            if (found := letters.category(named[2])) is None or named[1] == "P":
                raise Unsaid("a property that is not known")
            return found
        letter = self._text[self._at : self._at + 1]
        self._at += 1
        if letter.lower() in _KNOWN:
            found = _KNOWN[letter.lower()]
            return found if letter in _KNOWN else letters.complement(found)
        if letter in _CONTROL or (letter == "b" and inside):
            return letters.of(_CONTROL.get(letter, "\b"))
        if not letter or letter.isalnum():
            raise Unsaid("an escape that is not known")
        return letters.of(letter)

    def _point(self, point: int) -> Ranges:
        """The character, joined with its second half if it is written as two."""
        low = (
            _CODE.match(self._text, self._at + 1) if self._text.startswith("\\", self._at) else None
        )
        if 0xD800 <= point < 0xDC00 and low and low[2]:
            self._at = low.end()
            point = 0x10000 + ((point & 0x3FF) << 10) + (int(low[2], 16) & 0x3FF)
        if point > letters.LAST:
            raise Unsaid("no such letter")
        return ((point, point),)

    def _set(self) -> Ranges:
        """Read on after the bracket."""
        other = self._took("^")
        found: Ranges = ()
        while not self._took("]"):
            first = self._member()
            if (
                self._text.startswith("-", self._at)
                and self._text[self._at + 1 : self._at + 2] != "]"
            ):
                self._at += 1
                first = _between(first, self._member())
            found = letters.union(found, first)
        return letters.complement(found) if other else found

    def _member(self) -> Ranges:
        if self._took("\\"):
            return self._escape(inside=True)
        letter = self._text[self._at : self._at + 1]
        if not letter:
            raise Unsaid("a bracket is open")
        self._at += 1
        return letters.of(letter)


def _between(first: Ranges, last: Ranges) -> Ranges:
    (start, _), (end, _) = first[0], last[-1]
    if len(first) > 1 or len(last) > 1 or start != first[0][1] or start > end:
        raise Unsaid("no range")
    return ((start, end),)


def _repeated(part: Part, times: re.Match[str]) -> Times:
    if times[2] is None:
        least, most = {"*": (0, ENDLESS), "+": (1, ENDLESS), "?": (0, 1)}[times[1]]
    else:
        least = int(times[2][:9])
        most = least if times[3] is None else int(times[4][:9]) if times[4] else ENDLESS
    return Times(part, least, most)
