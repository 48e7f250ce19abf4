"""Says what a large JSON text is without what it stands for. Pure. It takes long, so call it in a
thread: others have their turns between two pieces."""

from __future__ import annotations

import sys
from typing import Any

import orjson

from schemas.api.piecewise import NotJson, Reader, TooDeep

_SPACES = b" \t\n\r"


def sign_of(text: bytes) -> str:
    """How a JSON text begins; "" if it is none, or no object and too deep to be written again."""
    sign = text.lstrip(_SPACES)[:1].decode(errors="replace")
    try:
        for _ in Reader(text, sys.maxsize, _write, keep=False).pieces():
            pass
    except TooDeep:
        return sign if sign == "{" else ""
    except NotJson:
        return ""
    return sign


def _write(_: bytes, found: Any, around: int) -> None:
    """A check of how deep it is."""
    for _level in range(around):
        found = [found]
    try:
        orjson.dumps(found)
    except orjson.JSONEncodeError:
        raise TooDeep("it is nested too deeply", 0) from None
