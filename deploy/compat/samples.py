"""What probes send: a clip of speech, a picture, and questions."""

from __future__ import annotations

from base64 import b64decode
from functools import cache
from importlib import resources
from typing import Any

import orjson

COUNT = "Count from 1 to 100, separated by commas."
"""No model answers this in only a few tokens."""
INVENT = "Invent a name for a water mill, and tell its story."
"""No two models answer this alike, nor does one model with two seeds."""


def speech() -> dict[str, Any]:
    """`says`, `seconds`, `source`, and the sound itself as base64 in `mp3`."""
    found: dict[str, Any] = _samples()["speech"]
    return found


def clip() -> bytes:
    return b64decode(speech()["mp3"])


def red_square(side: int) -> str:
    """A PNG of 64 or 256 pixels a side, as base64."""
    return str(_samples()["red"][str(side)])


@cache
def _samples() -> Any:
    return orjson.loads(resources.files("deploy.compat").joinpath("samples.json").read_bytes())
