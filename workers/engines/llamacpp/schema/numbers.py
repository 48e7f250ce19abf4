"""Rewrites ranges of whole numbers for the grammar. Pure."""

from __future__ import annotations

from math import ceil, floor
from typing import Any, TypeGuard

from schemas.api.decimals import range_of
from workers.engines.llamacpp.schema.merge import Schema

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_MOST_VALUES = 512
_DIGITS = 2
"""Fewest digits behind the point of fractions in a range."""
_FAR = 10**15 - 1
"""The grammar's integers have at most 16 digits."""


def rewrite(kept: Schema) -> Schema:
    """Ranges and multiples of whole numbers. The grammar has none for other numbers, so that of
    those only small ranges can be said, as enumerations."""
    step = kept.get("multipleOf")
    every = int(step) if _fits(step) and step >= 1 and step == int(step) else 0
    if kept["type"] == "number" and every:
        kept["type"] = "integer"
    if "number" in kept["type"]:
        return _enumerated(kept)
    low, high = _bounds(kept, every or 1)
    rest = {name: each for name, each in kept.items() if name not in _BOUNDS}
    if low is not None and high is not None:
        if low > high:
            return rest
        if every > 1 and (high - low) // every < _MOST_VALUES and kept["type"] == "integer":
            del rest["type"]
            return {**rest, "enum": list(range(low, high + 1, every))}
    if high is not None and high < 0 and low is None:
        low = -_FAR  # else the grammar allows leading zeros
    found = {"minimum": low, "maximum": high}
    return {**rest, **{name: bound for name, bound in found.items() if bound is not None}}


def _enumerated(kept: Schema) -> Schema:
    """Multiples of fractions, and else steps that are so small that nobody misses what is between
    them: in a larger range, answers would become less exact."""
    found = range_of(kept) if kept["type"] == "number" else None
    if found is None or not (values := found.values(_DIGITS)):
        return kept
    return {**{name: kept[name] for name in kept if name not in ("type", *_BOUNDS)}, "enum": values}


def _bounds(kept: Schema, every: int) -> tuple[int | None, int | None]:
    """The first and the last multiple of `every` in the range."""
    above, over, below, under = (kept.get(name) for name in _BOUNDS)
    lows = [ceil(above)] if _fits(above) else []
    lows += [floor(over) + 1] if _fits(over) else []
    if over is True and _fits(above):  # draft 4 says so of `minimum`
        lows.append(floor(above) + 1)
    highs = [floor(below)] if _fits(below) else []
    highs += [ceil(under) - 1] if _fits(under) else []
    if under is True and _fits(below):
        highs.append(ceil(below) - 1)
    low, high = max(lows, default=None), min(highs, default=None)
    return low and -(-low // every) * every, high and high // every * every


def _fits(bound: Any) -> TypeGuard[int | float]:
    return isinstance(bound, int | float) and not isinstance(bound, bool) and abs(bound) <= _FAR
