"""Pictures as bytes: reads the size from the head (`head`), checks that the file is whole
(`inspect`), and removes texts and metadata (`bare`).

Nothing is decoded to pixels. Sources: the PNG specification (W3C, third edition), ITU T.81 (JPEG),
GIF89a, the WebP container specification (RFC 9649), Microsoft's BITMAPINFOHEADER.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

KNOWN = "PNG, JPEG, GIF, WebP and BMP"
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a JPEG's frame header."""
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that have no length."""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""By colour type; a palette (3) decodes to three."""
_PNG_WORDS = frozenset({b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"})
_JPEG_WORDS = frozenset({0xE1, 0xED, 0xFE})
"""APP1 (EXIF, XMP), APP13 (IPTC), comment."""
_WEBP_WORDS = frozenset({b"EXIF", b"XMP "})
_STEPS = 10_000
"""Most segments and fill bytes that a reader walks over; a camera's JPEG has some dozens."""


class NoPicture(ValueError):
    """The message is the rest of a sentence that begins with "The picture"."""


@dataclass(frozen=True, slots=True)
class Head:
    """`format`: the word after ``image/`` in the content type."""

    format: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture whose file is whole. `format`: ``png``, ``jpeg`` or ``webp``."""

    format: str
    width: int
    height: int
    channels: int


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


def inspect(data: bytes) -> Picture:
    """Reads the whole structure of the file. Raises NoPicture."""
    form = next((name for name, begins, _ in _FORMATS if begins(data)), "")
    if form not in _CHANNELS:
        raise NoPicture("is no PNG, JPEG or WebP")
    try:
        channels = _CHANNELS[form](data)
    except IndexError:
        raise NoPicture("ends too early") from None
    found = head(data)
    return Picture(form, found.width, found.height, channels)


def bare(data: bytes) -> bytes:
    """The same picture without text, EXIF or XMP in it. Raises NoPicture."""
    form = inspect(data).format
    if form == "png":
        kept = (part for kind, part in _png_chunks(data) if kind not in _PNG_WORDS)
        return _PNG + b"".join(kept)
    if form == "jpeg":
        *parts, tail = _jpeg_segments(data)
        return b"\xff\xd8" + b"".join(p for m, p in parts if m not in _JPEG_WORDS) + tail[1]
    chunks = [_unflagged(k, p) for k, p in _webp_chunks(data) if k not in _WEBP_WORDS]
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise NoPicture("is a PNG without its head")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    """The oldest head has 16-bit sizes. A negative height means that the top row comes first."""
    (length,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return width, abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + _small(data[24:27]), 1 + _small(data[27:30])
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)  # each is one less in the file
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF  # the upper two bits ask to have it scaled
    raise NoPicture("is a WEBP without a picture")


def _small(data: bytes) -> int:
    if len(data) < 3:  # a slice that is cut short raises nothing itself
        raise IndexError
    return int.from_bytes(data, "little")


def _jpeg(data: bytes) -> tuple[int, int]:
    """Walks over EXIF, colour profile and small preview up to the frame."""
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
        else:  # a length counts its own two bytes; less would lead back
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    raise NoPicture("is a JPEG without a frame")


_FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], tuple[int, int]]], ...] = (
    ("png", lambda data: data.startswith(_PNG), _png),
    ("jpeg", lambda data: data.startswith(b"\xff\xd8\xff"), _jpeg),
    ("gif", lambda data: data.startswith((b"GIF87a", b"GIF89a")), _gif),
    ("webp", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    ("bmp", lambda data: data.startswith(b"BM"), _bmp),
)


# For `inspect` and `bare`: the channels and the parts of each format.


def _png_channels(data: bytes) -> int:
    chunks = list(_png_chunks(data))
    kinds = [kind for kind, _ in chunks]
    if kinds[0] != b"IHDR" or b"IDAT" not in kinds or kinds[-1] != b"IEND":
        raise NoPicture("is a PNG without its beginning or end")
    channels = _PNG_CHANNELS.get(chunks[0][1][17])  # behind length, kind, sizes and bit depth
    if channels is None:
        raise NoPicture("is a PNG with an unknown colour type")
    return channels


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, whole chunk) up to IEND."""
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        length = _big(data[at : at + 4])
        end = at + 12 + length
        kind, part = data[at + 4 : at + 8], data[at:end]
        if end > len(data) or len(kind) < 4:
            raise NoPicture("is a PNG that ends too early")
        if zlib.crc32(part[4:-4]) != _big(part[-4:]):
            raise NoPicture("is a PNG with a wrong checksum")
        yield kind, part
        at = end


def _jpeg_channels(data: bytes) -> int:
    for marker, part in list(_jpeg_segments(data)):  # a list: the file must be whole to its end
        if marker in _FRAMES:
            return part[9]  # behind marker, length, precision and sizes
    raise NoPicture("is a JPEG without a frame")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, whole segment); the last one is the scan with everything behind it."""
    if b"\xff\xd9" not in data[-1024:]:  # some programs append bytes behind the end marker
        raise NoPicture("is a JPEG that ends too early")
    at = 2
    while data[at + 1] != 0xDA:
        if data[at] != 0xFF:
            raise NoPicture("is a JPEG with a hole in it")
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        end = at + 2 + max(2, _big(data[at + 2 : at + 4]))
        yield data[at + 1], data[at:end]
        at = end
    yield 0xDA, data[at:]


def _webp_channels(data: bytes) -> int:
    for kind, part in list(_webp_chunks(data)):  # a list: the file must be whole to its end
        if kind == b"VP8X" and len(part) < 18:  # `_unflagged` writes in its 10 bytes
            raise NoPicture("is a WebP with a broken part")
        begins = _WEBP_BEGINS.get(kind)
        if begins is not None and part[8:].startswith(begins, 3 if kind == b"VP8 " else 0):
            return 3
    raise NoPicture("is a WebP without a picture")


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, whole chunk)."""
    at, end = 12, 8 + _small(data[4:8])
    if end > len(data):
        raise NoPicture("is a WebP that ends too early")
    while at < end:
        length = _small(data[at + 4 : at + 8])
        after = at + 8 + length + length % 2  # parts of odd lengths are padded
        if after > end:
            raise NoPicture("is a WebP with a broken part")
        yield data[at : at + 4], data[at:after]
        at = after


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _unflagged(kind: bytes, part: bytes) -> bytes:
    """The first byte of VP8X says which parts follow; clear its bits for EXIF (8) and XMP (4)."""
    return part[:8] + bytes([part[8] & ~12]) + part[9:] if kind == b"VP8X" else part


_WEBP_BEGINS = {b"VP8X": b"", b"VP8 ": b"\x9d\x01\x2a", b"VP8L": b"\x2f"}
"""First bytes of a chunk with a picture; in ``VP8 `` they follow three bytes."""
_CHANNELS: Mapping[str, Callable[[bytes], int]] = {
    "png": _png_channels,
    "jpeg": _jpeg_channels,
    "webp": _webp_channels,
}
