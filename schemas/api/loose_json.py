"""JSON as some servers write it, read all the same. Pure.

Python's library writes NaN and infinities, and halves of an emoji that a token cut in two; others
write a byte order mark, or bytes that are no UTF-8. What is no number is null, and what is no
letter is U+FFFD.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_ESCAPES = re.compile(
    r"\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|\\u[dD][89a-fA-F]\w\w|\\.", re.DOTALL
)
_HALF = 6
"""Letters of the escape of half a letter."""


def reread(data: bytes, refused: orjson.JSONDecodeError) -> Any:
    """What orjson has refused. Raises `refused` if it is no JSON in this way either."""
    text = _ESCAPES.sub(_whole, data.decode("utf-8-sig", errors="replace"))
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise refused from None


def mended(data: bytes) -> bytes | None:
    """The same as every parser reads it; None if it is no JSON, or needs no mending."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as refused:
        try:
            return orjson.dumps(reread(data, refused))
        except (orjson.JSONDecodeError, TypeError):
            return None
    return None


def _whole(escape: re.Match[str]) -> str:
    return "\\ufffd" if len(escape[0]) == _HALF else escape[0]
