"""Embeddings of the simulated models."""

from __future__ import annotations

import base64
import math
import random
import struct
from functools import lru_cache


@lru_cache(maxsize=1024)
def embedding(text: str, size: int, packed: bool) -> list[float] | str:
    """A unit vector that `text` alone decides; `packed`: base64 of little-endian floats."""
    noise = random.Random(text)
    raw = [noise.uniform(-1, 1) for _ in range(size)]
    norm = math.sqrt(sum(value * value for value in raw))
    found = [value / norm for value in raw]
    return base64.b64encode(struct.pack(f"<{size}f", *found)).decode() if packed else found
