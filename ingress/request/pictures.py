"""What a picture's head says: its format, and how many pixels it unfolds to.

Nothing is decoded; whether the picture is whole is for the engine to find out. Sources: the PNG
specification (W3C, third edition), ITU T.81 (JPEG), GIF89a, the WebP container specification
(RFC 9649), Microsoft's BITMAPINFOHEADER.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

KNOWN = "PNG, JPEG, GIF, WebP and BMP"
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a JPEG's frame header."""
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that have no length."""
_STEPS = 10_000
"""Segments and fill bytes that are walked over; a camera's JPEG has some dozens."""


class NoPicture(ValueError):
    """The message continues "The picture …"."""


@dataclass(frozen=True, slots=True)
class Head:
    """`format`: as in ``image/<format>``."""

    format: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def head(data: bytes) -> Head:
    """Raises NoPicture."""
    for name, begins, size in _FORMATS:
        if begins(data):
            try:
                width, height = size(data)
            except (struct.error, IndexError):
                raise NoPicture(f"is a {name.upper()} that ends in its head") from None
            if width < 1 or height < 1:
                raise NoPicture(f"is a {name.upper()} without a size")
            return Head(name, width, height)
    raise NoPicture(f"is of no known format (known: {KNOWN})")


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise NoPicture("is a PNG without its head")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    """The oldest kind of head has 16-bit sizes. A height below zero: stored from the top."""
    (length,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return width, abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + _small(data[24:27]), 1 + _small(data[27:30])
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise NoPicture("is a WEBP without a picture")


def _small(data: bytes) -> int:
    if len(data) < 3:
        raise IndexError
    return int.from_bytes(data, "little")


def _jpeg(data: bytes) -> tuple[int, int]:
    """Walks over what comes before the frame: EXIF, a colour profile, a small preview."""
    at = 2
    for _ in range(_STEPS):
        if data[at] != 0xFF:
            raise NoPicture("is a JPEG with a hole in it")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker in (0xD9, 0xDA):
            break
        else:
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    raise NoPicture("is a JPEG without a frame")


_FORMATS: tuple[
    tuple[str, Callable[[bytes], bool], Callable[[bytes], tuple[int, int]]],
    ...,
] = (
    ("png", lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    ("jpeg", lambda data: data.startswith(b"\xff\xd8\xff"), _jpeg),
    ("gif", lambda data: data.startswith((b"GIF87a", b"GIF89a")), _gif),
    ("webp", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    ("bmp", lambda data: data.startswith(b"BM"), _bmp),
)
