"""What the limits of a key or account mean for one request: its cost, and what is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.keys import Limits
from schemas.limits import (
    CONCURRENT,
    MICRO,
    MONTHLY_CREDITS,
    MONTHLY_TOKENS,
    QUEUED,
    REQUESTS,
    TOKENS,
)


class Moment(NamedTuple):
    """Milliseconds of the shared clock: the earliest and the latest that it may be. `month`: months
    since the year 0 by the broker's calendar; `left`: milliseconds that are left of it."""

    earliest: int
    latest: int
    month: int = 0
    left: int = 0


class Refusal(NamedTuple):
    """`limit`: which one is reached. `after`: milliseconds until there is room, if nobody else
    takes it first."""

    limit: str
    after: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request needs. `queue`: the gauge of its model's queue."""

    tokens: int = 0
    queue: str = QUEUED

    def of(self, meter: str) -> int:
        return self.tokens if meter == TOKENS else 1


def queue(model: str) -> str:
    """The gauge of requests that wait for a model."""
    return f"{QUEUED}:{model}"


class Terms:
    """The limits of one key or account, by what they bound. `meters`: amounts of a window.
    `budgets`: amounts of a month, credits in millionths."""

    __slots__ = ("_concurrent", "_queued", "budgets", "meters")

    def __init__(self, limits: Limits) -> None:
        credits = limits.monthly_credits
        self.meters = _given({REQUESTS: limits.requests, TOKENS: limits.tokens})
        self.budgets = _given(
            {
                MONTHLY_TOKENS: limits.monthly_tokens,
                MONTHLY_CREDITS: None if credits is None else max(1, round(credits * MICRO)),
            }
        )
        self._concurrent, self._queued = limits.concurrent, limits.queued

    def __bool__(self) -> bool:
        """Whether there is anything to count."""
        return bool(self.meters or self.budgets or self._concurrent or self._queued)

    def gauges_of(self, cost: Cost) -> tuple[str, ...]:
        """The gauges in which a request needs a place."""
        if self._queued is None:
            return () if self._concurrent is None else (CONCURRENT,)
        return (cost.queue,) if self._concurrent is None else (CONCURRENT, cost.queue)

    def places(self, gauge: str) -> int:
        """How many there are; 0 if there is no limit any more."""
        return (self._concurrent if gauge == CONCURRENT else self._queued) or 0

    def is_gauge(self, name: str) -> bool:
        return name == CONCURRENT or name.startswith(QUEUED)

    def needs(self, cost: Cost) -> Iterator[tuple[str, int]]:
        """What a request takes of each meter and gauge."""
        for meter in self.meters:
            yield meter, cost.of(meter)
        for gauge in self.gauges_of(cost):
            yield gauge, 1

    def amount(self, cost: Cost, name: str) -> int:
        """What a request takes of one limit; -1 if nothing: it is the limit of another queue."""
        if name in self.budgets:
            return 1
        return next((amount for need, amount in self.needs(cost) if need == name), -1)


def _given(limits: Mapping[str, int | None]) -> dict[str, int]:
    return {name: most for name, most in limits.items() if most is not None}
