"""Counts what workers served, by day, key and model, and hands the sums to the broker.

A request only appends its answer to a list. The list is summed up at once if nothing was handed
over lately, else after a pause, so a killed ingress loses the answers of that pause at most.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime

import structlog

from schemas import subjects, usage
from schemas.bus import Bus, BusError
from schemas.frames import End
from schemas.usage import Served

log = structlog.get_logger("usage")

PAUSE = 0.1
"""Seconds from one message to the next."""
AGAIN = 1.0
"""Seconds until the broker is tried again that did not take a message."""
WINDOW = 60.0
"""Seconds for which sums are added up. Each message replaces the one before it in the stream, until
the next window begins."""
MOST = 2000
"""Rows of one message, which is then well below what the broker takes."""
DAY = 86_400

Key = tuple[int, str, str, str, str]
"""Days since the epoch, account, key, model as the client named it, node."""


class UsageCounter:
    """The fallback counts the answers of providers, where it pays for them."""

    def __init__(self, bus: Bus, ingress: str) -> None:
        self._bus = bus
        self._ingress = ingress
        self.answers: deque[tuple[Key, End]] = deque()
        """Whole answers of workers that are not summed up yet."""
        self.counted = asyncio.Event()
        """Set by who appends to them."""
        self._rows: dict[Key, list[float]] = {}
        self._window = 0
        self._opened = 0.0

    async def run(self) -> None:
        while True:
            await self.counted.wait()
            await asyncio.sleep(PAUSE if await self.flush() else AGAIN)

    async def flush(self) -> bool:
        """Hand over what was counted. False if the broker does not take it: it is kept, for the
        next time."""
        while self.counted.is_set():
            self._sum_up()
            rows = [_served(key, counts) for key, counts in self._rows.items()]
            subject = subjects.usage(self._ingress, self._window)
            try:
                await self._bus.store(subject, usage.REPLACING, usage.pack(rows))
            except BusError as fault:
                log.warning("usage.kept", rows=len(rows), error=str(fault))
                self.counted.set()
                return False
            # The next window has another subject: what the broker has of this one stays.
            if len(rows) >= MOST or time.monotonic() - self._opened > WINDOW:
                self._window += 1
                self._rows.clear()
        return True

    def _sum_up(self) -> None:
        if not self._rows:
            self._opened = time.monotonic()
        while self.answers and len(self._rows) < MOST:
            key, end = self.answers.popleft()
            row = self._rows.setdefault(key, [0, 0, 0, 0, 0.0])
            row[0] += 1
            row[1] += max(0, end.prompt_tokens)  # -1: not known
            row[2] += max(0, end.completion_tokens)
            row[3] += max(0, end.cached_tokens)
            row[4] += end.engine_ms / 1000
        if not self.answers:
            self.counted.clear()


def _served(key: Key, counts: list[float]) -> Served:
    number, account, name, model, node = key
    day = datetime.fromtimestamp(number * DAY, UTC).date().isoformat()
    requests, prompt, completion, cached = map(int, counts[:4])
    sums = (requests, prompt, completion, cached, round(counts[4], 3))
    return Served(day, account, name, model, node, *sums)
