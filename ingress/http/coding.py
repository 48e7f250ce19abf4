"""Unpacks compressed bodies (RFC 9110, 8.4) while they are read. The reader stops at its limit, so
a few bytes that would unpack to very many are never unpacked beyond it."""

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
"""Bytes that are unpacked before other requests get a turn (measured: 0.5 ms)."""
_WINDOW = 23
"""How far zstd may refer back, as a power of two of bytes: the limit of RFC 9659 for HTTP."""


def _gzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _zstd() -> Any:
    limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW}
    return zstd.ZstdDecompressor(options=limit)


# x-gzip is an old name of gzip (RFC 9110, 8.4.1.3).
_CODINGS: Mapping[str, Callable[[], Any]] = {"gzip": _gzip, "x-gzip": _gzip, "zstd": _zstd}
_KNOWN = "gzip, zstd"


def unpacked(pieces: AsyncIterator[bytes], coding: str, limit: int) -> AsyncIterator[bytes]:
    """The unpacked pieces of a body with this ``Content-Encoding``. `limit`: bytes of the packed
    body. Raises UnsupportedCoding. While the pieces are read, raises BodyTooLarge, and
    InvalidRequest for a body that is not in this coding."""
    named = (each.strip().lower() for each in coding.split(","))
    name = ",".join(each for each in named if each not in ("", "identity"))
    if not name:
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
    """Unpacks a body of several members: both codings allow one packed body after another."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._member: Any = None

    @property
    def whole(self) -> bool:
        return self._member is None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to, in pieces of `_SLICE` bytes at most."""
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
        # zstd keeps the input that it has not used yet; zlib gives it back, and gets it again.
        data = getattr(member, "unconsumed_tail", b"")
        full = bool(data) or len(piece) == _SLICE
        yield piece
