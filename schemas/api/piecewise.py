"""Reads a large JSON text in pieces, so that others have their turn in between.

orjson reads a text in one go, and nothing else of the process runs meanwhile: 32 MiB take 25 ms if
they are one string, 90 ms as numbers, and seconds as many small objects (measured). So a walk over
the brackets cuts the text where an entry ends, and orjson reads what is between two cuts. A string
that is longer than a piece is read in several, too. What comes is what orjson gives, and what
orjson refuses is refused; so is a key of more than 64 KiB, and what would take long to join or to
free (`TooMany`).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from schemas.api.json_walk import (
    CLOSES,
    KEY,
    OPENS,
    SPACE,
    TOKEN,
    UNITS,
    WORD,
    Open,
    Window,
    entries,
)

LARGE = 256 * 1024
"""Bytes up to which a text is read in one go, whatever it holds."""
AT_ONCE = 2**20
"""Bytes up to which it is worth while to look whether there are few lists and objects: then a text
is read in one go, too. To look takes 1.5 ms a MiB (measured)."""
PIECE = 64 * 1024
"""Bytes of a piece."""
TURN = 0.004
"""Seconds of work, after which others have as many."""
MOST = 2**20
"""Lists and objects of one text: each takes 60 bytes or more, so 96 MiB of them would take 4 GB.
The probabilities of 32,000 tokens, with twenty alternatives each, are fewer."""
LETTERS = 2**22
"""Letters of a string that is not ASCII alone: where the first of a new kind comes, Python writes
all those before it anew, with up to four bytes each (measured: 7 ms). It is more than a million
tokens. Pictures and recordings are ASCII."""
KEYS = 2**16
"""Entries of one object: each time that it has doubled, Python places all of them anew."""
DEEPEST = 254
"""Lists and objects inside each other that are cut. orjson writes no more."""

_ESCAPE = 12
"""Bytes of the longest of these."""
_CONTINUES, _OF = 0x80, 0xC0
"""Bytes of a character in UTF-8 but its first have these bits of those."""
_QUOTE, _COMMA = ord('"'), ord(",")
_TOKENS = 4096
"""Brackets and runs between them of a piece, at most (measured: 2 ms)."""
_JOINED = 2**20
"""Letters of a long string that are joined at once (measured: 0.6 ms)."""
_SPACES = b" \t\n\r"

Check = Callable[[bytes, Any, int], None]
"""Gets each piece, as a text of its own, what it stands for, and how many lists and objects are
around it."""


class NotJson(ValueError):
    """`at`: a byte before the fault."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(f"{why}, behind byte {at}")
        self.at = at


class TooDeep(NotJson):
    """More than `DEEPEST` lists and objects are inside each other."""


class TooMany(ValueError):
    """The text has more of something than is taken: that is its message."""


class Repeated(ValueError):
    """An object has a key twice. Known only where there is a check, which sees to each piece."""


async def load(
    text: bytes, most: int = MOST, check: Check | None = None, entries: int = sys.maxsize
) -> Any:
    """What orjson gives. `most`: lists and objects that it may have, and `entries` in all of them.
    Raises NotJson, TooDeep, TooMany, Repeated, and what `check` raises."""
    if len(text) <= LARGE or (len(text) <= AT_ONCE and _seconds(text) <= TURN):
        return whole(text, check)
    reader = Reader(text, most, check, entries=entries)
    await in_turns(reader.pieces())
    return reader.found


async def in_turns(pieces: Iterator[None]) -> None:
    """Do the work of `pieces`, with pauses in which others have as long."""
    clock = time.perf_counter
    began = clock()
    for _ in pieces:
        if (took := clock() - began) >= TURN:
            await asyncio.sleep(took)
            began = clock()


def _seconds(text: bytes) -> float:
    """About what orjson takes (measured)."""
    return 3e-9 * len(text) + 4e-7 * (text.count(b"[") + text.count(b"{"))


def whole(text: bytes, check: Check | None = None) -> Any:
    """The same in one go."""
    found = _loads(text, 0)
    if check is not None:
        check(text, found, 0)
    return found


def _loads(text: bytes, at: int) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise NotJson(fault.msg, at) from None


class Reader:
    """`found` is what `text` stands for, once `pieces` has ended."""

    def __init__(
        self,
        text: bytes,
        most: int = MOST,
        check: Check | None = None,
        piece: int = PIECE,
        entries: int = sys.maxsize,
        *,
        keep: bool = True,
    ) -> None:
        self._keep = keep
        self.found: Any = None
        self._text = text
        self._at = 0
        self._most = self._left = most
        self._entries = self._room = entries
        self._check = check
        self._piece = max(piece, 2 * _ESCAPE)
        self._open: list[Open] = []

    def pieces(self) -> Iterator[None]:
        """Reads, and stops behind each piece. Raises as `load` does."""
        yield from self._space()
        if self._at == len(self._text) or self._text[self._at] not in OPENS:
            self.found = whole(self._text, self._check)
            return
        self._count(1)
        self._begin(self._at, None)
        while self._open:
            before = self._at
            self._walk()
            if self._at == before:
                yield from self._entry()
            yield
        yield from self._space()
        if self._at != len(self._text):
            raise NotJson("there is more behind the end", self._at)

    def _space(self) -> Iterator[None]:
        while (behind := self._behind_space(self._at)) > self._at:
            self._at = behind
            yield

    def _behind_space(self, at: int) -> int:
        found = SPACE.match(self._text, at, at + self._piece)
        return at if found is None else found.end()

    def _walk(self) -> None:
        """Read one piece. Nothing was read if an entry is longer than that."""
        text, window, stop = self._text, Window(self._at), self._at + self._piece
        at = self._at
        # `finditer` is quicker, but leaves holes in the memory of all that is read meanwhile: a
        # list of 200,000 objects that was dropped took 40 MB for good (measured, Python 3.11).
        for _ in range(_TOKENS):
            if (token := TOKEN.match(text, at, stop)) is None:
                break
            before, at = at, token.end()
            sign = text[before]
            if text[at - 1] == _COMMA:
                window.comma(at - 1)
            elif sign == _QUOTE:
                if at == before + 1:
                    break
            elif sign in OPENS:
                if at == before + 1:
                    window.opened(before)
                else:
                    window.seen += 1
            elif sign in CLOSES and not window.closed() and self._ended(window, before):
                return
        self._take(window)

    def _ended(self, window: Window, at: int) -> bool:
        """The innermost list or object ends. Whether that was the last."""
        self._count(window.seen)
        self._run(window.start, at, ends=True)
        inner = self._open.pop()
        if self._text[at] != CLOSES[inner.is_object]:
            raise NotJson("another bracket was expected", at)
        self._put(inner.key, inner.values, at)
        self._at = at + 1
        window.__init__(at + 1)  # type: ignore[misc]
        return not self._open

    def _take(self, window: Window) -> None:
        """Read what is whole: in each list or object, all up to its last comma."""
        self._count(window.marks[-1])
        start = window.start
        for level, cut in enumerate(window.cuts):
            if cut >= 0:
                self._run(start, cut, ends=False)
                start = cut + 1
            if level < len(window.opens):
                at = window.opens[level]
                self._begin(at, self._key_before(start, at))
                start = at + 1
        self._at = start

    def _count(self, brackets: int) -> None:
        self._left -= brackets
        if self._left < 0:
            raise TooMany(f"{self._most} lists and objects")

    def _enter(self, number: int) -> None:
        self._room -= number
        if self._room < 0:
            raise TooMany(f"{self._entries} entries of lists and objects")

    def _begin(self, at: int, key: str | None) -> None:
        if len(self._open) == DEEPEST:
            raise TooDeep("it is nested too deeply", at)
        self._open.append(Open(self._text[at], key))
        self._at = at + 1

    def _key_before(self, start: int, at: int) -> str | None:
        """The key of what begins at `at`; None in a list."""
        holder = self._open[-1]
        if holder.takes_entry:
            if holder.is_object:
                if (found := KEY.fullmatch(self._text, start, at)) is not None:
                    return str(_loads(found[1], start))
            elif not self._text[start:at].strip(_SPACES):
                return None
        raise NotJson("no entry was expected", start)

    def _run(self, start: int, stop: int, *, ends: bool) -> None:
        """Read entries of the innermost list or object, up to a comma, or to its end."""
        inner, raw = self._open[-1], self._text[start:stop].strip(_SPACES)
        if not inner.takes_entry:
            if raw and raw[0] != _COMMA:
                raise NotJson("a comma was expected", start)
            inner.due = bool(raw)
            raw = raw[1:].lstrip(_SPACES)
        if raw:
            self._add(inner, raw, start)
        elif inner.due or (inner.fresh and not ends):
            raise NotJson("an entry was expected", start)
        inner.due = not ends

    def _add(self, inner: Open, raw: bytes, start: int) -> None:
        text = b"{%b}" % raw if inner.is_object else b"[%b]" % raw
        found = _loads(text, start)
        if self._check is not None:
            self._check(text, found, len(self._open) - 1)
        if self._entries != sys.maxsize:
            self._enter(entries(found) if b"[" in raw or b"{" in raw else len(found))
        inner.fresh = inner.due = False
        if not self._keep:
            return
        if inner.is_object:
            before = len(inner.values)
            if before > KEYS:
                raise TooMany(f"{KEYS} entries of one object")
            inner.values.update(found)
            if self._check is not None and len(inner.values) != before + len(found):
                raise Repeated
        else:
            inner.values.extend(found)

    def _put(self, key: str | None, value: Any, at: int) -> None:
        if not self._open:
            self.found = value
            return
        self._enter(1)
        holder = self._open[-1]
        holder.fresh = holder.due = False
        if not self._keep:
            return
        if not holder.is_object:
            holder.values.append(value)
        elif self._check is not None and key in holder.values:
            raise Repeated
        else:
            holder.values[key] = value

    def _entry(self) -> Iterator[None]:
        """Begin with an entry that is longer than a piece."""
        at = self._at
        yield from self._space()
        if self._at > at:
            return
        holder, key = self._open[-1], None
        if not holder.takes_entry:
            raise NotJson("a comma was expected", at)
        if holder.is_object:
            found = KEY.match(self._text, at, at + PIECE)
            if found is None:
                raise NotJson("a key was expected", at)
            key, at = str(_loads(found[1], at)), found.end()
        sign = self._text[at : at + 1]
        if sign == b'"':
            yield from self._long(at + 1, key)
        elif sign and sign in OPENS:
            self._count(1)
            self._begin(at, key)
        else:
            word = WORD.match(self._text, at)
            if word is None:
                raise NotJson("an entry was expected", at)
            self._put(key, whole(word[0], self._check), at)
            self._at = word.end()

    def _long(self, at: int, key: str | None) -> Iterator[None]:
        """Read a string from behind its quote."""
        # Python makes a string longer in place if no other name has it: there is no moment in which
        # all of it is written at once.
        text, parts, found, plain = self._text, list[str](), "", True
        last, size = False, 0
        while not last:
            end = self._units_behind(at)
            last = text[end : end + 1] == b'"'
            if not last:
                end = self._between(at, end)
            part = _loads(b'"%b"' % text[at:end], at)
            at, plain, size = end, plain and part.isascii(), size + len(part)
            if not plain and size > LETTERS and self._keep:
                raise TooMany(f"{LETTERS} letters in a text that is not ASCII alone")
            if self._keep:
                parts.append(part)
            if last or len(parts) * self._piece >= _JOINED:
                found += "".join(parts)
                parts.clear()
            if not last:
                yield
        self._put(key, found, at)
        self._at = at + 1

    def _units_behind(self, at: int) -> int:
        """Where a string ends, or the part of it that is whole units within a piece."""
        text, stop = self._text, min(at + self._piece, len(self._text))
        quote = text.find(b'"', at, stop)
        end = stop if quote < 0 else quote
        if text.find(b"\\", at, end) < 0:
            return end
        units = UNITS.match(text, at, stop)
        assert units is not None, "it matches nothing, too"
        return units.end()

    def _between(self, at: int, end: int) -> int:
        """Where a string that goes on behind `end` can be cut, as that may be inside a character or
        an escape."""
        text, stop = self._text, min(at + self._piece, len(self._text))
        if end < len(text) and end + _ESCAPE >= stop:
            while at < end and text[end] & _OF == _CONTINUES:
                end -= 1
            if end > at:
                return end
        raise NotJson("a string has no end, or bytes that no string has", at)
