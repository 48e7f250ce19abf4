"""Bodies that come compressed (RFC 9110, 8.4), unpacked as they are read: whoever reads stops at a
limit, and what a few bytes would have become behind it is never made."""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from schemas.errors import BodyTooLarge, InvalidRequest, UnsupportedCoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SLICE = 2**18
"""Bytes that are unpacked before others get their turn (measured: 0.5 ms)."""
_WINDOW = 23
"""The most that a body of zstd may refer back, as a power of two: RFC 9659 has it so for HTTP."""


def _gzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _zstd() -> Any:
    limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW}
    return zstd.ZstdDecompressor(options=limit)


_CODINGS: Mapping[str, Callable[[], Any]] = {"gzip": _gzip, "x-gzip": _gzip, "zstd": _zstd}
_KNOWN = "gzip, zstd"


def unpacked(pieces: AsyncIterator[bytes], coding: str, limit: int) -> AsyncIterator[bytes]:
    """The pieces of a body under this ``Content-Encoding``; `limit`: bytes before they are
    unpacked. Raises UnsupportedCoding; and, as it is read, BodyTooLarge, and InvalidRequest for
    what is not in that coding."""
    name = coding.strip().lower()
    if name == "identity":
        return pieces
    if name not in _CODINGS:
        why = f"The content encoding is {coding[:64]!r}; send the body as it is, or in {_KNOWN}."
        raise UnsupportedCoding(why, told={"accept-encoding": _KNOWN})
    return _unpacked(pieces, name, limit)


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes, the limit here.")


async def _unpacked(pieces: AsyncIterator[bytes], name: str, limit: int) -> AsyncIterator[bytes]:
    members, left = _Members(_CODINGS[name]), limit
    try:
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise too_large(limit)
            for found in members.feed(piece):
                yield found
                await asyncio.sleep(0)
    except (zlib.error, zstd.ZstdError):
        raise InvalidRequest(f"The body is not valid {name}, as its head says it is.") from None
    if not members.whole:
        raise InvalidRequest(f"The body ends in the middle of its {name}.")


class _Members:
    """Both codings let a body be several that follow each other."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._member: Any = None

    @property
    def whole(self) -> bool:
        return self._member is None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """In pieces of `_SLICE` bytes at most."""
        while data:
            member = self._member = self._member or self._make()
            yield from _slices(member, data)
            data = b""
            if member.eof:
                data, self._member = member.unused_data, None


def _slices(member: Any, data: bytes) -> Iterator[bytes]:
    full = True
    while full and not member.eof:
        piece = member.decompress(data, _SLICE)
        # zstd keeps the rest of what it was given, and zlib gives it back.
        data = getattr(member, "unconsumed_tail", b"")
        full = bool(data) or len(piece) == _SLICE
        yield piece
