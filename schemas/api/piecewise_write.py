"""Writes, and frees, what a large JSON text stands for, in pieces: the other end of `piecewise`.

orjson writes a value in one go, which takes 0.5 s for eight million numbers, and Python frees one
in one go when its last name goes: ten million entries take 0.1 s (measured).
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from schemas.api import piecewise

PIECE = 64 * 1024
"""About so many bytes are written at once."""
_ENTRY = 16
"""Bytes that an entry is taken to have beside its letters."""
_FEW = 64
"""Entries up to which a list is not asked first whether it has numbers alone."""
_ROW = 1024
"""Entries of a list or object that are looked at once."""
IN_THREAD = 2**20
"""Bytes from which pieces are joined in a thread: Python lets others have their turn meanwhile."""
_working = Counter[str]()
"""`now`: for how many none is collected; `before`: whether it was before them."""
_SCALARS = frozenset({int, float, bool, type(None)})


async def dump(value: Any) -> bytes:
    """What orjson writes. Raises orjson.JSONEncodeError."""
    if _weight(value) <= PIECE:
        return orjson.dumps(value)
    return await collected(written(value))


async def collected(pieces: Iterator[bytes]) -> bytes:
    """All pieces as one, each of which takes little work."""
    parts = list[bytes]()
    await piecewise.in_turns(_kept(pieces, parts))
    return await joined(parts)


@contextmanager
def uncollected() -> Iterator[None]:
    """Python collects no garbage meanwhile. Each full collection goes through all lists and objects
    that there are, at once: 55 ms for 300,000, several times while they are read (measured)."""
    if not _working:
        _working["before"] = gc.isenabled()
    _working["now"] += 1
    gc.disable()
    try:
        yield
    finally:
        _working["now"] -= 1
        if not _working["now"]:
            if _working["before"]:
                gc.enable()
            _working.clear()


async def joined(parts: list[bytes]) -> bytes:
    """The parts of something large as one."""
    if sum(map(len, parts)) <= IN_THREAD:
        return b"".join(parts)
    return await asyncio.to_thread(b"".join, parts)


async def joined_text(parts: Iterable[str]) -> str:
    """The same of texts in ASCII: Python makes one longer in place."""
    found = ""
    for part in parts:
        found += part
        await asyncio.sleep(0)
    return found


async def drop(value: Any) -> None:
    """Free a tree of lists and objects that nobody else has: it is empty then."""
    await piecewise.in_turns(_freed([value]))


def is_small(value: Any) -> bool:
    """Whether a value is written at once."""
    return _weight(value) <= PIECE


def _kept(pieces: Iterator[bytes], parts: list[bytes]) -> Iterator[None]:
    for piece in pieces:
        parts.append(piece)
        yield


def written(value: Any) -> Iterator[bytes]:
    """The pieces of what orjson writes."""
    if _weight(value) <= PIECE:
        yield orjson.dumps(value)
    elif isinstance(value, str):
        yield from _text(value)
    elif isinstance(value, dict):
        yield from _object(value)
    else:
        yield from _list(value)


def _text(value: str) -> Iterator[bytes]:
    yield b'"'
    for at in range(0, len(value), PIECE):
        yield orjson.dumps(value[at : at + PIECE])[1:-1]
    yield b'"'


def _list(values: list[Any]) -> Iterator[bytes]:
    before = b"["
    for at in range(0, len(values), _ROW):
        row = values[at : at + _ROW]
        if set(map(type, row)) <= _SCALARS:
            yield before + orjson.dumps(row)[1:-1]
            before = b","
            continue
        for few in _groups(row):
            yield before
            yield from _bare(few) if len(few) > 1 else written(few[0])
            before = b","
    yield b"]"


def _object(values: dict[str, Any]) -> Iterator[bytes]:
    before = b"{"
    for few in _groups(values):
        yield before
        before = b","
        if len(few) > 1:
            yield from _bare({key: values[key] for key in few})
        else:
            yield orjson.dumps(few[0]) + b":"
            yield from written(values[few[0]])
    yield b"}"


def _bare(few: Any) -> Iterator[bytes]:
    yield orjson.dumps(few)[1:-1]


def _groups(values: Any) -> Iterator[list[Any]]:
    """The entries of a list, or the keys of an object, by as many as are written at once."""
    few, size = list[Any](), 0
    for each in values:
        weight = _weight(each) + (_weight(values[each]) if isinstance(values, dict) else 0)
        if few and size + weight > PIECE:
            yield few
            few, size = [], 0
        few.append(each)
        size += weight
    if few:
        yield few


def _weight(value: Any) -> int:
    """About how many bytes it takes to write a value. One that is more than a piece may be told to
    be any number beyond that."""
    # Each answer that was made of a stream comes here: by `isinstance`, and with all entries put
    # into `inner`, it took 17 us, and takes 2 (measured).
    kind = type(value)
    if kind is not dict and kind is not list:
        return len(value) if kind is str else 0
    size, inner = 0, [value]
    while inner and size <= PIECE:
        each = inner.pop()
        size += _ENTRY * len(each)
        if size > PIECE:
            break
        if type(each) is dict:
            size += sum(map(len, each))
            each = each.values()
        elif len(each) > _FEW and set(map(type, each)) <= _SCALARS:
            continue
        for one in each:
            kind = type(one)
            if kind is str:
                size += len(one)
            elif kind is dict or kind is list:
                inner.append(one)
    return size


def _freed(waiting: list[Any]) -> Iterator[None]:
    while waiting:
        each = waiting.pop()
        while each:
            if isinstance(each, dict):
                row = [each.popitem()[1] for _ in range(min(_ROW, len(each)))]
            else:
                row = each[-_ROW:]
                del each[-_ROW:]
            waiting += [inner for inner in row if isinstance(inner, list | dict)]
            del row
            yield
