"""Base64 of pictures and recordings, in slices, since megabytes would hold up other requests."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Iterator

from schemas.api.piecewise_write import joined, joined_text

SLICE = 2**18
"""Letters that are looked at before other requests get a turn (measured: 1.3 ms)."""
_PLAIN = str.maketrans("-_", "+/", "\t\n\r")
_ESCAPES = (("%2B", "+"), ("%2F", "/"), ("%3D", "="), ("%0D", ""), ("%0A", ""))
"""What escapes of URLs stand for; base64 may be written with these."""


async def decoded(text: str, at: int = 0) -> bytes:
    """The bytes of `text` from `at` on. Raises ValueError."""
    pieces = []
    # A slice that ends in padding would pass, whatever comes behind it.
    if text.find("=", at, max(at, len(text) - 2)) >= 0:
        raise ValueError("padding inside")
    for begin in range(at, len(text), SLICE):
        if begin > at:
            await asyncio.sleep(0)
        pieces.append(binascii.a2b_base64(text[begin : begin + SLICE], strict_mode=True))
    return await joined(pieces)


async def encoded(content: bytes) -> str:
    """The base64 of `content`."""
    size = SLICE // 4 * 3
    starts = range(0, len(content), size)
    rows = (binascii.b2a_base64(content[at : at + size], newline=False).decode() for at in starts)
    return await joined_text(rows)


async def rest(text: str, at: int) -> str:
    """`text` from `at` on."""
    return await joined_text(_slices(text, at)) if at else text


async def plain(text: str, at: int = 0) -> str:
    """Base64 as RFC 4648 writes it, padded. `text`, from `at` on, may have line breaks, no padding,
    the letters of URLs, or escapes. A space inside stays: it may have been a plus sign."""
    pieces = list[str]()
    while text[at : at + 1].isspace():
        at += 1
    stop = len(text)
    while stop > at and text[stop - 1].isspace():
        stop -= 1
    while at < stop:
        end = min(at + SLICE, stop)
        cut = text.rfind("%", end - 2, end)  # an escape stays whole
        piece = text[at : cut if cut > at else end]
        at += len(piece)
        for escape, letter in _ESCAPES:
            piece = piece.replace(escape, letter).replace(escape.lower(), letter)
        pieces.append(piece.translate(_PLAIN))
        await asyncio.sleep(0)
    while pieces and not (end_of := pieces[-1].rstrip("=")):
        pieces.pop()
    pieces[-1:] = [end_of] if pieces else []
    return await joined_text([*pieces, "=" * (-sum(map(len, pieces)) % 4)])


def _slices(text: str, at: int) -> Iterator[str]:
    yield from (text[begin : begin + SLICE] for begin in range(at, len(text), SLICE))
