"""Parses and checks a large body, as `schemas.api.shape` does a small one, but so that nobody waits
for it: it is parsed in pieces, and checked in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from schemas.api import piecewise, piecewise_write
from schemas.api.json_place import LOOKED_AT
from schemas.api.shape import (
    MOST_IDS,
    NULL,
    Fault,
    Request,
    Shape,
    no_json,
    repeated,
    too_deep,
    unwritten,
)
from schemas.errors import InvalidRequest

MOST = 2**16
"""Lists and objects of a body: four times as many as its messages may be."""
ENTRIES = MOST_IDS + MOST
"""Entries in all of these: of a tree with more of them Python takes longer to be rid (measured: up
to 12 ms for so many)."""
FEW = 64 * 1024
"""Bytes up to which a body is checked quickly, whatever it holds (measured: 8 ms)."""
_BRACKETS = 2048
"""Lists and objects of a larger one that is."""
Look = Callable[[bytes, int, int], bool]
"""Whether what is looked for begins in a body between two places."""


def is_large(body: bytes) -> bool:
    """Whether it takes long to read a body of more than `FEW` bytes."""
    return len(body) > piecewise.LARGE or body.count(b"[") + body.count(b"{") > _BRACKETS


async def has(body: bytes, sign: bytes) -> bool:
    """Whether `sign` is anywhere in `body`. It looks piece by piece: all of 32 MiB at once would
    hold up other requests for 30 ms."""

    def look(body: bytes, start: int, stop: int) -> bool:
        return body.find(sign, start, stop + len(sign) - 1) >= 0

    return await shows(body, look)


async def shows(body: bytes, look: Look) -> bool:
    """Whether `look` sees what it looks for in a piece of `body`."""
    if len(body) <= piecewise.LARGE:
        return look(body, 0, len(body))
    found = False

    def pieces() -> Iterator[None]:
        nonlocal found
        for at in range(0, len(body), piecewise.PIECE):
            if found := look(body, at, at + piecewise.PIECE):
                return
            yield

    await piecewise.in_turns(pieces())
    return found


async def read(shape: Shape, body: bytes) -> tuple[Request, bytes]:
    """As `shape.read` does. Raises InvalidRequest."""
    found, has_null = await parse(body)
    changed = await asyncio.to_thread(shape.check_large, found, has_null)
    return found, await piecewise_write.dump(found) if changed else body


async def parse(body: bytes) -> tuple[Any, bool]:
    """As `schemas.api.shape.parse` does, and whether there may be a null. Raises InvalidRequest."""
    has_null = False

    def look(piece: bytes, found: Any, around: int) -> None:
        nonlocal has_null
        has_null = has_null or NULL in piece
        if (fault := unwritten(piece, found, around)) is not None:
            raise _Faulty(fault)

    return await _parsed(body, look), has_null


class _Faulty(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault


async def _parsed(body: bytes, look: piecewise.Check) -> Any:
    # What is wrong is looked for in a thread, as that takes up to 0.1 s.
    try:
        return await piecewise.load(body, MOST, look, ENTRIES)
    except _Faulty as faulty:
        raise await asyncio.to_thread(faulty.fault, body) from None
    except piecewise.TooDeep:
        raise await asyncio.to_thread(too_deep, body) from None
    except piecewise.NotJson as fault:
        # No name is looked for behind `LOOKED_AT`.
        seen = body[: min(fault.at, LOOKED_AT + 1)].decode(errors="replace")
        raise await asyncio.to_thread(no_json, fault, seen) from None
    except piecewise.TooMany as fault:
        why = f"The body has more than {fault}, the most that are taken."
        raise InvalidRequest(why, param=None) from None
    except piecewise.Repeated:
        raise await asyncio.to_thread(repeated, body) from None
