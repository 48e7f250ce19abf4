"""What probes send: a clip of speech, a picture, and questions."""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode, b64encode
from functools import cache
from importlib import resources
from typing import Any

import orjson

COUNT = "Count from 1 to 100, separated by commas."
"""No model is done with this within some tokens."""
INVENT = "Invent a name for a water mill, and tell its story."
"""No two models, and no two seeds, say the same."""
RED = (220, 20, 20)


@cache
def speech() -> dict[str, Any]:
    """`says`, `seconds`, `source`, and the sound itself as base64 in `mp3`."""
    raw = resources.files("deploy.compat").joinpath("speech.json").read_bytes()
    found: dict[str, Any] = orjson.loads(raw)
    return found


def clip() -> bytes:
    return b64decode(speech()["mp3"])


def png(size: int, colour: tuple[int, int, int] = RED) -> bytes:
    """A square of one colour."""
    rows = (b"\0" + bytes(colour) * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    body = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def picture_url() -> str:
    return f"data:image/png;base64,{b64encode(png(64)).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
