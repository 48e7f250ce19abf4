"""What ``/api/generate`` remembers: its `context` is a list of integers that clients send back as
it came. Ollama's are token ids; here they hold the texts themselves, as engines tell no ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

Turn = tuple[str, str]
"""The role, and what it said."""

_MARK = int.from_bytes(b"hr1", "big")
"""The first integer of each context of ours."""
_EACH = 3
"""Bytes in an integer: with more it would be written with more digits than tokens are."""


def written(turns: Sequence[Turn]) -> list[int]:
    raw = orjson.dumps(turns)
    raw += b" " * (-len(raw) % _EACH)
    pieces = (raw[at : at + _EACH] for at in range(0, len(raw), _EACH))
    return [_MARK, *(int.from_bytes(piece, "big") for piece in pieces)]


def read(context: Sequence[int]) -> list[Turn] | None:
    """The turns in a context; None if it is not one of ours."""
    try:
        found = orjson.loads(b"".join(each.to_bytes(_EACH, "big") for each in context[1:]))
    except (ValueError, OverflowError):
        return None
    ours = context[0] == _MARK and isinstance(found, list) and all(map(_is_turn, found))
    return [(role, text) for role, text in found] if ours else None


def _is_turn(found: Any) -> bool:
    match found:
        case ["user" | "assistant", str()]:
            return True
    return False
