"""Upper bounds of what the sound and the pictures of a request may use; `pricing` explains why they
hold. Pure."""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from typing import Any

from fallback.cost import duration

AUDIO_TOKENS = 32
"""Tokens for a second of sound in a prompt: Gemini counts 32 (its page "Audio understanding"),
others fewer."""
SPOKEN_LIMIT = 2000
SPOKEN_TOKENS = 10
"""Most tokens of a transcript: the limit, plus `SPOKEN_TOKENS` for each second. OpenAI's models
write up to 2,000 (their pages), and more for a recording that is cut in pieces; nobody speaks more
than 10 tokens a second for long."""
BYTES_A_SECOND = 1000
"""A recording whose length cannot be told is taken to have 8 kbit/s, the lowest rate of MP3."""


def pictures_given(request: Mapping[str, Any]) -> int:
    """Pictures that a request to edit uploads, its mask and whatever else included."""
    return max(1, sum(map(len, filter(_is_uploaded, request.values()))))


def texts(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form that are no uploads."""
    return {name: value for name, value in request.items() if not _is_uploaded(value)}


def _is_uploaded(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], bytes)


def seconds(recordings: Any, size: int) -> float:
    """The length of all recordings, or a guess from the body's `size` if there are none to read."""
    if not isinstance(recordings, list | tuple):
        return size / BYTES_A_SECOND
    return sum(map(_length, recordings))


def _length(recording: bytes) -> float:
    most = duration.most(recording)
    return len(recording) / BYTES_A_SECOND if most is None else most


def tokens_of(base64: str) -> int:
    """Most tokens of sound in a prompt. Text that is not base64 counts as it is."""
    try:
        sound = binascii.a2b_base64(base64)
    except ValueError:
        sound = base64.encode("utf-8", "surrogatepass")
    return math.ceil(_length(sound) * AUDIO_TOKENS)
