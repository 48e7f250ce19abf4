"""Pictures as bytes: which format and size, whether they are whole, and what they carry unseen.

Only headers and structure are read; nothing is decoded to pixels. Sources: the PNG specification
(W3C, third edition), ITU T.81 (JPEG), the WebP container specification.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""By colour type; a palette (3) decodes to three."""
_PNG_WORDS = frozenset({b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"})
_JPEG_WORDS = frozenset({0xE1, 0xED, 0xFE})
"""APP1 (EXIF, XMP), APP13 (IPTC), comment."""
_WEBP_WORDS = frozenset({b"EXIF", b"XMP "})
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


class BadPicture(ValueError):
    """The bytes are no picture of a known format, or a broken one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`format`: ``png``, ``jpeg`` or ``webp``."""

    format: str
    width: int
    height: int
    channels: int


def inspect(data: bytes) -> Picture:
    """Raises BadPicture."""
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except IndexError:
        raise BadPicture("it ends too early") from None
    raise BadPicture("it is no PNG, JPEG or WebP")


def bare(data: bytes) -> bytes:
    """The same picture without text, EXIF or XMP in it. Raises BadPicture."""
    picture = inspect(data)
    if picture.format == "png":
        kept = (part for kind, part in _png_chunks(data) if kind not in _PNG_WORDS)
        return _PNG + b"".join(kept)
    if picture.format == "jpeg":
        *head, tail = _jpeg_segments(data)
        return b"\xff\xd8" + b"".join(p for m, p in head if m not in _JPEG_WORDS) + tail[1]
    chunks = [_unflagged(k, p) for k, p in _webp_chunks(data) if k not in _WEBP_WORDS]
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _png(data: bytes) -> Picture:
    chunks = list(_png_chunks(data))
    kinds = [kind for kind, _ in chunks]
    if kinds[0] != b"IHDR" or b"IDAT" not in kinds or kinds[-1] != b"IEND":
        raise BadPicture("it is a PNG without its beginning or end")
    header = chunks[0][1][8:]
    colour = _PNG_CHANNELS.get(header[9])
    if colour is None:
        raise BadPicture("it is a PNG with an unknown colour type")
    return _sized("png", _big(header[0:4]), _big(header[4:8]), colour)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, the chunk whole) up to IEND."""
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        length = _big(data[at : at + 4])
        end = at + 12 + length
        kind, part = data[at + 4 : at + 8], data[at:end]
        if end > len(data) or len(kind) < 4:
            raise BadPicture("it is a PNG that ends too early")
        if zlib.crc32(part[4:-4]) != _big(part[-4:]):
            raise BadPicture("it is a PNG with a wrong checksum")
        yield kind, part
        at = end


def _jpeg(data: bytes) -> Picture:
    for marker, part in list(_jpeg_segments(data)):
        if marker in _SOF:
            return _sized("jpeg", _big(part[7:9]), _big(part[5:7]), part[9])
    raise BadPicture("it is a JPEG without a frame")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, the segment whole); last the scan, with everything behind it."""
    if b"\xff\xd9" not in data[-1024:]:
        raise BadPicture("it is a JPEG that ends too early")
    at = 2
    while data[at + 1] != 0xDA:
        if data[at] != 0xFF:
            raise BadPicture("it is a JPEG with a hole in it")
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        end = at + 2 + max(2, _big(data[at + 2 : at + 4]))
        yield data[at + 1], data[at:end]
        at = end
    yield 0xDA, data[at:]


def _webp(data: bytes) -> Picture:
    for kind, part in list(_webp_chunks(data)):
        body = part[8:]
        if kind == b"VP8X":
            return _sized("webp", 1 + _small(body[4:7]), 1 + _small(body[7:10]), 3)
        if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
            width, height = _small(body[6:8]) & 0x3FFF, _small(body[8:10]) & 0x3FFF
            return _sized("webp", width, height, 3)
        if kind == b"VP8L" and body[0] == 0x2F:
            bits = _small(body[1:5])
            return _sized("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), 3)
    raise BadPicture("it is a WebP without a picture")


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, the chunk whole)."""
    at, end = 12, 8 + _small(data[4:8])
    if end > len(data):
        raise BadPicture("it is a WebP that ends too early")
    while at < end:
        length = _small(data[at + 4 : at + 8])
        after = at + 8 + length + length % 2
        if after > end:
            raise BadPicture("it is a WebP with a broken part")
        yield data[at : at + 4], data[at:after]
        at = after


def _unflagged(kind: bytes, part: bytes) -> bytes:
    """VP8X says in its first byte which parts follow: no EXIF (8) and no XMP (4)."""
    return part[:8] + bytes([part[8] & ~12]) + part[9:] if kind == b"VP8X" else part


def _sized(name: str, width: int, height: int, channels: int) -> Picture:
    if not width or not height:
        raise BadPicture(f"it is a {name.upper()} without a size")
    return Picture(name, width, height, channels)


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _small(data: bytes) -> int:
    return int.from_bytes(data, "little")
