"""Says once that a threshold of a budget is reached, however many processes notice it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from schemas import metrics, subjects
from schemas.alerts import Alert, Budget
from schemas.bus import Bus, BusError
from schemas.jetstream import streams

log = structlog.get_logger("alerts")

TRIES = 60
AGAIN = 5.0
"""How often, and after how many seconds, an alert is written that the broker did not take."""
LAST_WORDS = 1.0
"""Seconds for what is being written when the process ends."""
MOST = 64
"""Alerts that may wait for the broker at once; further ones are noticed again later."""
KNOWN = 10_000
"""Budgets of which this process knows what it said. The broker knows it of all."""


class Alarm:
    """Writes alerts into the stream ``ALERTS``, each once, and logs those that it wrote.

    The stream takes the first alert of each threshold and period. Whoever sends them on
    (`ingress.webhook`) reads them there, so an alert outlives the process that noticed it.
    """

    def __init__(self, bus: Bus, thresholds: Sequence[int]) -> None:
        """`thresholds`: percent."""
        self._bus = bus
        self._thresholds = sorted(thresholds)
        self._said: dict[tuple[str, str, str], tuple[str, int]] = {}
        """The period, and the highest threshold that was said of it."""
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def lowest(self) -> int:
        return self._thresholds[0]

    def is_done(self, name: str, account: str, key: str, period: str) -> bool:
        """Whether all thresholds of a budget were said here."""
        return self._said.get((name, account, key)) == (period, self._thresholds[-1])

    def note(self, budget: Budget, *, empty: bool = False) -> None:
        """Say what thresholds are reached, and were not said. Never waits, and costs next to
        nothing if there are none. `empty`: the budget does not do for what is asked of it."""
        share = 100.0 if empty else budget.share
        if share < self._thresholds[0]:
            return
        place = budget.name, budget.account, budget.key
        period, highest = self._said.get(place, ("", 0))
        if period != budget.period:
            highest = 0
        for threshold in self._thresholds:
            if highest < threshold <= share and len(self._writing) < MOST:
                self._remember(place, budget.period, threshold)
                self._write_soon(Alert(budget, threshold, time.time()))

    async def close(self) -> None:
        """Give the broker a moment for what is being written."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=LAST_WORDS)
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    def _remember(self, place: tuple[str, str, str], period: str, threshold: int) -> None:
        if len(self._said) >= KNOWN:
            self._said.clear()
        self._said[place] = period, threshold

    def _write_soon(self, alert: Alert) -> None:
        task = asyncio.create_task(self._write(alert))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, alert: Alert) -> None:
        budget = alert.budget
        about = {"budget": budget.name, "account": budget.account, "key": budget.key}
        for _ in range(TRIES):
            try:
                if await streams.create(self._bus, subjects.alert(alert.id), alert.pack()):
                    numbers = {"used": budget.used, "of": budget.of, "unit": budget.unit}
                    metrics.ALERTS.labels(budget.name, str(alert.threshold)).inc()
                    log.warning(
                        "alerts.reached",
                        threshold=alert.threshold,
                        period=budget.period,
                        **about,
                        **numbers,
                    )
                return
            except BusError as fault:
                log.warning("alerts.waiting", error=str(fault), **about)
            await asyncio.sleep(AGAIN)
        log.error("alerts.lost", threshold=alert.threshold, **about)
