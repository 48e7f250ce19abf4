"""Pictures of noise: real PNGs, and just enough of JPEG and WebP to be read as such."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import orjson

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(slots=True)
class Draw:
    """What is to be drawn; `images` and `mask` only as to whether they could be read. `own`: what
    was asked in the server's own words."""

    prompt: str
    format: str = "png"
    width: int = 0
    height: int = 0
    seed: int = 42
    steps: int = 2
    metadata: bool = True
    n: int = 1
    images: int = 0
    mask: bool = False
    loras: list[str] = field(default_factory=list)
    own: dict[str, Any] = field(default_factory=dict)


def draw(ask: Draw, width: int, height: int, seed: int) -> str:
    """One picture, base64."""
    words = _parameters(ask, width, height, seed) if ask.metadata else ""
    noise = random.Random(f"{ask.prompt} {seed} {ask.steps}")
    match ask.format:
        case "jpeg":
            found = jpeg(width, height)
        case "webp":
            found = webp(width, height, words)
        case _:
            found = png(width, height, noise.randbytes(3 * width), words)
    return base64.b64encode(found).decode()


def png(width: int, height: int, row: bytes, words: str = "", channels: int = 3) -> bytes:
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    text = _chunk(b"tEXt", b"parameters\0" + words.encode()) if words else b""
    pixels = zlib.compress(b"".join(b"\0" + row for _ in range(height)), 1)
    return PNG + _chunk(b"IHDR", head) + text + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def jpeg(width: int, height: int, channels: int = 3, words: bytes = b"") -> bytes:
    """Headers of a JPEG with an empty scan."""
    parts = b"".join(bytes([index + 1, 0x11, 0]) for index in range(channels))
    frame = struct.pack(">BHHB", 8, height, width, channels) + parts
    scan = bytes([channels]) + b"".join(bytes([i + 1, 0]) for i in range(channels)) + b"\0\x3f\0"
    comment = _segment(0xFE, words) if words else b""
    body = _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + comment + _segment(0xC0, frame)
    return b"\xff\xd8" + body + _segment(0xDA, scan) + b"\x00\xff\xd9"


def webp(width: int, height: int, words: str = "") -> bytes:
    """An extended WebP with an empty lossy picture."""
    flags = 4 if words else 0
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    start = b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    parts = [(b"VP8X", bytes([flags, 0, 0, 0]) + size), (b"VP8 ", start + b"\0" * 8)]
    if words:
        parts.append((b"XMP ", f"<x:xmpmeta>{words}</x:xmpmeta>".encode()))
    body = b"WEBP" + b"".join(_riff(kind, data) for kind, data in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def readable(data: bytes) -> tuple[int, int] | None:
    """(width, height) of what the real one can use; None for what it leaves out in silence:
    anything broken, and pictures with fewer than three channels."""
    if data[:8] == PNG and data[25] in (2, 3, 6):
        return struct.unpack(">II", data[16:24])
    return (64, 64) if data[:2] == b"\xff\xd8" or data[8:12] == b"WEBP" else None


def _parameters(ask: Draw, width: int, height: int, seed: int) -> str:
    own = {
        "height": height,
        "models": {"clip_l": "clip.gguf", "diffusion_model": "tiny.safetensors"},
        "prompt": {"negative": "", "positive": ask.prompt},
        "schema": "sdcpp.image.params/v1",
        "seed": seed,
        "width": width,
    }
    told = (
        f"Steps: {ask.steps}, CFG scale: 1.000000, Guidance: 3.500000, Eta: inf, Seed: {seed}, "
        f"Size: {width}x{height}, Model: , RNG: cuda, Sampler: NONE, TE: clip.gguf, "
        "Unet: tiny.safetensors, Version: stable-diffusion.cpp"
    )
    return f"{ask.prompt}\n{told}, SDCPP: {orjson.dumps(own).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
