"""How long a recording is, without decoding it. Pure.

MP3, AAC in ADTS and AMR are measured frame by frame, plain samples by their bytes: a client cannot
make these look shorter. FLAC, Ogg, MP4 and WebM state a length in their heads. `seconds` believes
it; `most` also computes the least length that so many bytes can have, and takes the larger.

Sources: ISO/IEC 11172-3, 13818-3 and 13818-7 (frames), RFC 4867 (AMR), 9639 (FLAC), 3533 and 7845
(Ogg, Opus), ISO/IEC 14496-12 (mvhd), Matroska's element specification.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache

_FASTEST = 192_000 * 8 * 4
"""Bytes a second of the finest sound in use. A head that claims a higher rate would make the
recording look short, so it is not believed."""
_PLAIN = frozenset({1, 3, 6, 7, 0xFFFE})
"""WAV's formats with a constant byte rate: whole numbers, floats, A-law, µ-law, extensible."""
_STRANGE = 0.1
"""Share of a file's bytes that may lie outside its frames."""
_LOST = 4096
"""False starts of a frame, after which the file is not taken for this format."""
_DENSEST = 64_000
"""Bytes a second at the highest rates of Opus and AAC. Films have more: `most` overrates them."""
_BLOCKS = 32.767
"""Most seconds from a WebM cluster's time to its last block: 16 signed bits of milliseconds."""
_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {
    (True, 1): tuple(range(0, 449, 32)),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _LOW,
    (False, 3): _LOW,
}
"""kbit/s by (MPEG-1 rather than MPEG-2 or 2.5, layer)."""
_SAMPLED = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025),
    *(8000, 7350),
)
"""ADTS: samples a second, by the index in a frame's head."""
_NARROW = (12, 13, 15, 17, 19, 20, 26, 31, 5)
_WIDE = (17, 23, 32, 36, 40, 46, 50, 58, 60, 5)
"""AMR: bytes of a frame of 20 ms after its first byte, by the frame's mode."""


def seconds(data: bytes) -> float | None:
    """The length of a recording; None if it cannot be told."""
    at = _id3(data)
    head = data[at : at + 12]
    reader = _READERS.get(head[:4]) or (_mp4 if head[4:8] == b"ftyp" else None)
    if reader is not None:
        return reader(data[at:])
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # The two bits of the layer are never 0 in MPEG audio, and always in ADTS.
        return _framed(data, at, _mpeg if head[1] & 0x06 else _adts)
    return None


def most(data: bytes) -> float | None:
    """As `seconds`; where only the head tells the length, at least what the file's size implies."""
    told, at = seconds(data), _id3(data)
    head = data[at : at + 22]
    if told is None:
        return None
    if head[:4] == b"fLaC":
        return max(told, len(data) / _flac_pace(head))
    if head[:4] in (b"OggS", b"\x1a\x45\xdf\xa3") or head[4:8] == b"ftyp":
        return max(told, len(data) / _DENSEST)
    return told


def _id3(data: bytes) -> int:
    """Bytes of an ID3 tag before the sound; the tag's size is written in 7 bits a byte."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << 7 * (3 - at) for at, byte in enumerate(data[6:10]))


def _wav(data: bytes) -> float | None:
    """All bytes after the head of "data" count, whatever size the head claims: streamed files claim
    0 or 2³² − 1."""
    at, pace = 12, 0
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"fmt " and at + 24 <= len(data):
            form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            pace = rate * channels * bits // 8 if form in _PLAIN else 0
        elif name == b"data":
            return _paced(len(data) - at - 8, pace)
        at += 8 + size + size % 2  # chunks begin at even places
    return _paced(len(data), pace)


def _aiff(data: bytes) -> float | None:
    """None for AIFC, which may be compressed."""
    at = data.find(b"COMM", 12, 4096)
    if data[8:12] != b"AIFF" or at < 0 or at + 26 > len(data):
        return None
    # The rate is a float of 80 bits: 16383 is the bias of its exponent, 63 the mantissa's point.
    channels, _, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", data, at + 8)
    rate = mantissa >> 16383 + 63 - exponent if 16383 <= exponent < 16383 + 64 else 0
    return _paced(len(data), rate * channels * bits // 8)


def _paced(size: int, pace: int) -> float | None:
    return size / pace if 0 < pace <= _FASTEST else None


def _flac(data: bytes) -> float | None:
    """STREAMINFO comes first: at byte 18, 20 bits of rate, 8 bits of shape, 36 bits of samples."""
    packed = int.from_bytes(data[18:26], "big")
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return samples / rate if rate and samples else None


def _flac_pace(head: bytes) -> float:
    """Bytes a second of the samples without compression, the most that FLAC needs. The head has 20
    bits of rate, 3 of channels less one, 5 of bits a sample less one."""
    packed = int.from_bytes(head[18:22], "big")
    return (packed >> 12) * ((packed >> 9 & 7) + 1) * ((packed >> 4 & 31) + 1) / 8


def _ogg(data: bytes) -> float | None:
    """The sum of the last times of all streams: Ogg may chain streams one after the other."""
    rates: dict[bytes, int] = {}
    ends: dict[bytes, int] = {}
    for page in re.finditer(b"OggS\0", data):
        at = page.start()
        serial, body = data[at + 14 : at + 18], at + 27 + int.from_bytes(data[at + 26 : at + 27])
        if rate := _rate(data[body : body + 40]):
            rates[serial] = rate
        gone = int.from_bytes(data[at + 6 : at + 14], "little")
        if gone < 1 << 63:  # -1 means that no packet ends on this page (RFC 3533)
            ends[serial] = max(gone, ends.get(serial, 0))
    if not ends or ends.keys() - rates.keys():
        return None
    return sum(end / rates[serial] for serial, end in ends.items()) or None


def _rate(head: bytes) -> int:
    if head.startswith(b"OpusHead"):
        return 48_000
    at = {b"\x01vorbis": 12, b"Speex  ": 36}.get(head[:7])
    return int.from_bytes(head[at : at + 4], "little") if at else 0


def _mp4(data: bytes) -> float | None:
    at = data.find(b"mvhd")
    if at < 0 or at + 36 > len(data):
        return None
    form, place = (">IQ", 24) if data[at + 4] == 1 else (">II", 16)  # version 1 has 64 bits
    scale, length = struct.unpack_from(form, data, at + place)
    # All ones: not known. Files in fragments say 0 here.
    known = scale and length not in (0, 2**32 - 1, 2**64 - 1)
    return length / scale if known else None


def _webm(data: bytes) -> float | None:
    """The time of the last cluster, plus the most that its blocks may add. The time is taken as
    milliseconds, the unit that all common writers use."""
    at = data.rfind(b"\x1f\x43\xb6\x75")
    found = re.compile(rb"\xe7([\x81-\x88])").search(data, at + 4, at + 64) if at >= 0 else None
    if found is None:
        return None
    size = found[1][0] & 0x0F  # 0x81 to 0x88: as many bytes of the number follow
    return int.from_bytes(data[found.end() : found.end() + size]) / 1000 + _BLOCKS


def _amr(data: bytes) -> float | None:
    sizes = _WIDE if data.startswith(b"#!AMR-WB") else _NARROW
    at, frames = data.find(b"\n") + 1, 0
    while at < len(data):
        mode = data[at] >> 3 & 0x0F
        # The other modes hold no sound: lost frames, and none.
        at += 1 + (sizes[mode] if mode < len(sizes) else 0)
        frames += 1
    return frames / 50


_READERS: dict[bytes, Callable[[bytes], float | None]] = {
    b"RIFF": _wav,
    b"RF64": _wav,
    b"FORM": _aiff,
    b"fLaC": _flac,
    b"OggS": _ogg,
    b"\x1a\x45\xdf\xa3": _webm,
    b"#!AM": _amr,
}
"""By the first four bytes of a file."""
Frame = tuple[int, float]
"""(bytes, seconds)."""


def _framed(data: bytes, at: int, frame: Callable[[bytes, int], Frame | None]) -> float | None:
    """The sum of all frames' seconds. Bytes between frames (tags, damage) are skipped. None if many
    are skipped, as sound in another format could be hidden there."""
    total, lost, left = 0.0, 0, (len(data) - at) * _STRANGE
    while 0 <= at < len(data) - 6:  # `_adts` reads six bytes further
        found = frame(data, at) if data[at] == 0xFF else None
        if found is not None:
            at += found[0]
            total += found[1]
        elif (lost := lost + 1) > _LOST or left < 0:
            return None
        else:
            after = data.find(b"\xff", at + 1)
            left -= (after if after >= 0 else len(data)) - at
            at = after
    return total if left >= 0 and total else None


def _mpeg(data: bytes, at: int) -> Frame | None:
    return _mpeg_frame(data[at + 1], data[at + 2])


@lru_cache(512)
def _mpeg_frame(second: int, third: int) -> Frame | None:
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    rate, sampled = third >> 4, third >> 2 & 3
    # Reserved values; a rate of 0 is "free", and then the head does not tell the frame's size.
    if second & 0xE0 != 0xE0 or version == 1 or layer == 4 or rate in (0, 15) or sampled == 3:
        return None
    first = version == 3
    pace = (44_100, 48_000, 32_000)[sampled] // (1 if first else 2 if version == 2 else 4)
    samples = 384 if layer == 1 else 1152 if first or layer == 2 else 576
    size = samples // 8 * _RATES[first, layer][rate] * 1000 // pace
    padded = third >> 1 & 1
    # Layer I counts its size in slots of four bytes.
    return (size // 4 + padded) * 4 if layer == 1 else size + padded, samples / pace


def _adts(data: bytes, at: int) -> Frame | None:
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    sampled = data[at + 2] >> 2 & 0x0F
    if data[at + 1] & 0xF6 != 0xF0 or size < 7 or sampled >= len(_SAMPLED):
        return None
    return size, 1024 * ((data[at + 6] & 3) + 1) / _SAMPLED[sampled]
