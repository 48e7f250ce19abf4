"""Model files without weights: what stands in their heads is all that is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deploy.engines.gguf import Value

LLAMA: dict[str, Value] = {
    "general.architecture": "llama",
    "general.type": "model",
    "llama.block_count": 32,
    "llama.context_length": 131_072,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
}
"""An 8B: 131,072 bytes of cache for each token."""
CLIP: dict[str, Value] = {
    "general.architecture": "clip",
    "general.type": "mmproj",
    "clip.vision.projection_dim": 4096,
}


def gguf(path: Path, values: Mapping[str, Any], tensors: Iterable[str] = (), size: int = 0) -> Path:
    """A GGUF file of version 3; of at least `size` bytes, which take no room on the disk."""
    names = list(tensors)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(names), len(values))
    head += b"".join(text(key) + value(each) for key, each in values.items())
    head += b"".join(text(name) + struct.pack("<IQIQ", 1, 8, 0, 0) for name in names)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(max(size, len(head)))
    return path


def text(of: str) -> bytes:
    raw = of.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(of: Any) -> bytes:
    match of:
        case bool():
            return struct.pack("<I?", 7, of)
        case int():
            return struct.pack("<II", 4, of)
        case float():
            return struct.pack("<If", 6, of)
        case str():
            return struct.pack("<I", 8) + text(of)
    kind = 8 if isinstance(of[0], str) else 4
    items = b"".join(text(each) if kind == 8 else struct.pack("<I", each) for each in of)
    return struct.pack("<IIQ", 9, kind, len(of)) + items


def whisper(path: Path, vocabulary: int = 51_864, bands: int = 80) -> Path:
    numbers = (vocabulary, 1500, 384, 6, 4, 448, 384, 6, 4, bands, 1)
    path.write_bytes(struct.pack("<12i", 0x67676D6C, *numbers) + bytes(64))
    return path


def safetensors(path: Path, tensors: Iterable[str]) -> Path:
    told = {name: {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]} for name in tensors}
    head = json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(2))
    return path
