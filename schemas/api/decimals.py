"""The numbers that a schema allows, as a list of decimals. Pure.

Grammars have no ranges of fractions, but they have lists of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

Bound = tuple[Decimal, bool]
"""A number, and whether it is itself outside of the range."""
MOST = 128
"""Most numbers in a list. llama-server tries them all for each token: 128 cost it 15 ms a token,
512 cost 100, and 1,024 cost 200 (measured)."""
_FINEST = 6
"""Most digits behind the point."""
_LARGEST = Decimal(10) ** 9
"""Of larger bounds, a float has no room for so many digits behind the point."""
_BOUNDS = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


@dataclass(frozen=True, slots=True)
class Range:
    """`low`, `high`: None if there is no such bound. `step`: all numbers are multiples of it; None
    if they need not be."""

    low: Bound | None
    high: Bound | None
    step: Decimal | None

    def values(self, coarsest: int = 0) -> list[float]:
        """At most `MOST` numbers of the range, as fine as that allows. If there is no `step`, they
        have `coarsest` digits behind the point, or more. Empty if they would be too many, or if a
        bound is missing."""
        if self.low is None or self.high is None:
            return []
        digits = range(_FINEST, coarsest - 1, -1)  # the finest list that is short enough
        for step in [self.step] if self.step else (Decimal(1).scaleb(-each) for each in digits):
            first, last = _first(self.low, step), _last(self.high, step)
            if 0 <= last - first < MOST:
                return [_plain(step * index) for index in range(first, last + 1)]
        return []


def range_of(schema: Mapping[str, Any]) -> Range | None:
    """What a schema says of numbers; None if that is nothing, or cannot be read."""
    lows, highs = (_bounds(schema, *names) for names in _BOUNDS)
    step = _read(schema.get("multipleOf"))
    if not (lows or highs or step):
        return None
    high = min(highs, key=lambda bound: (bound[0], not bound[1]), default=None)
    return Range(max(lows, default=None), high, step if step and step > 0 else None)


def _bounds(schema: Mapping[str, Any], plain: str, exclusive: str) -> list[Bound]:
    at, beyond = _read(schema.get(plain)), _read(schema.get(exclusive))
    # Draft 4 has no exclusive bound, but says true if the other one is outside of the range.
    found = [] if at is None else [(at, schema.get(exclusive) is True)]
    return found if beyond is None else [*found, (beyond, True)]


def _first(low: Bound, step: Decimal) -> int:
    at, outside = low
    index = int((at / step).to_integral_value(ROUND_CEILING))
    # One further if the bound itself is the number: true counts as 1.
    return index + (outside and index * step == at)


def _last(high: Bound, step: Decimal) -> int:
    at, outside = high
    index = int((at / step).to_integral_value(ROUND_FLOOR))
    return index - (outside and index * step == at)


def _plain(number: Decimal) -> float:
    """Whole numbers as integers, as models write them."""
    return int(number) if number == number.to_integral_value() else float(number)


def _read(found: Any) -> Decimal | None:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    number = Decimal(str(found))
    return number if abs(number) <= _LARGEST else None
