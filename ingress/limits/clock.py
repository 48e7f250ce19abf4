"""The clock that all ingresses go by: the broker's, without its steps.

An ingress asks the broker for its time and goes on from there by a clock of its own that nobody can
set. It knows how wrong that may be. If the broker's clock is set, whoever notices writes down by
how much, so that the clock of limits goes on evenly for everybody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from ingress.limits.store import Overtaken, Store
from ingress.limits.terms import Moment
from schemas import subjects

log = structlog.get_logger("limits")

DRIFT = 0.001
"""By how much a clock may go wrong; nobody's goes wrong by more than half of it."""
FRESH = 5_000.0
"""Milliseconds after which the broker is asked again, beside the requests."""
STALE = 30_000.0
"""Milliseconds after which requests wait for its answer."""
FORGOTTEN = 600_000.0
"""Milliseconds after which nothing is left of what was used by the clock as it was known."""
SAME = 100.0
"""Milliseconds by which two measurements of one step may differ."""
ROUNDING = 1.0
"""Milliseconds by which the broker's stamps and their rounding may be wrong."""


def steady() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine is suspended if it
    has such a clock."""
    return time.clock_gettime(_STEADY)


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _Sample(NamedTuple):
    """The clock was at `time` when the own one was at `at`, give or take `half`. Milliseconds."""

    at: float
    time: float
    half: float

    def doubt(self, at: float) -> float:
        """By how much the clock may be wrong that goes by this sample."""
        return self.half + abs(at - self.at) * DRIFT


@dataclass(slots=True)
class _Month:
    """Where the month ends, by the broker's calendar. `until`: milliseconds of the epoch."""

    number: int
    until: float


class SharedClock:
    def __init__(self, store: Store, steady: Callable[[], float] = steady) -> None:
        self._store = store
        self._steady = steady
        self._best: _Sample | None = None
        self._asked = 0.0
        self._shift = 0
        self._month = _Month(0, -math.inf)

    @property
    def is_known(self) -> bool:
        return self._best is not None

    @property
    def age(self) -> float:
        """Milliseconds since the broker was asked; infinite if it never was."""
        return math.inf if self._best is None else self._steady() * 1000 - self._asked

    def now(self) -> Moment:
        """The clock must have been read before."""
        best, at = self._best, self._steady() * 1000
        assert best is not None
        estimate, doubt = best.time + at - best.at, best.doubt(at)
        calendar = estimate - self._shift
        if calendar >= self._month.until:
            self._month = _month(calendar)
        left = max(1, math.ceil(self._month.until - calendar))
        earliest, latest = math.floor(estimate - doubt), math.ceil(estimate + doubt)
        return Moment(earliest, latest, self._month.number, left)

    def calendar(self, moment: int) -> float:
        """Seconds of the epoch at a moment, as the broker's clock says it."""
        return (moment - self._shift) / 1000

    async def read(self) -> None:
        """Ask the broker. Raises BusError."""
        while True:
            place, data = await self._store.read(subjects.LIMITS_CLOCK)
            shift = int(data or b"0")
            sent = self._steady() * 1000
            told = await self._store.time()
            got = self._steady() * 1000
            found = _Sample((sent + got) / 2, told + shift, (got - sent) / 2 + ROUNDING)
            step = self._step_of(found)
            if not step or self._is_known(step, shift):
                break
            try:
                place = await self._store.write(
                    subjects.LIMITS_CLOCK, place, b"%d" % (shift - step)
                )
            except Overtaken:
                continue
            log.warning("limits.clock_was_set", ms=step)
            found, shift = found._replace(time=found.time - step), shift - step
            break
        self._adopt(found, shift, bool(step))

    def _step_of(self, found: _Sample) -> int:
        """By how much the broker's clock was set since it was asked last; 0 if it was not."""
        best = self._best
        if best is None or found.at - self._asked > FORGOTTEN:
            return 0
        off = found.time - (best.time + found.at - best.at)
        return round(off) if abs(off) > best.doubt(found.at) + found.half else 0

    def _is_known(self, step: int, shift: int) -> bool:
        """Whether somebody has made up for a step of the broker's clock before this process, which
        came in between, knew of it: then the own time was wrong, by as much."""
        return bool(shift - self._shift) and abs(step - (shift - self._shift)) < SAME

    def _adopt(self, found: _Sample, shift: int, stepped: bool) -> None:
        best = self._best
        if best is None or stepped or found.half < best.doubt(found.at):
            self._best = found
        if shift != self._shift:
            self._month = _Month(0, -math.inf)
        self._asked, self._shift = found.at, shift


def _month(calendar: float) -> _Month:
    now = datetime.fromtimestamp(calendar / 1000, UTC)
    number = now.year * 12 + now.month - 1
    year, month = divmod(number + 1, 12)
    return _Month(number, datetime(year, month + 1, 1, tzinfo=UTC).timestamp() * 1000)
