"""Counts what workers served, by day, key and model, and hands the sums to the broker now and then.

A request only appends its answer to a list, and the list is summed up every few seconds. So the
count costs a request next to nothing, but a killed ingress loses the rows of the last seconds.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from schemas import subjects, usage
from schemas.bus import Bus, BusError
from schemas.frames import End
from schemas.usage import Served

log = structlog.get_logger("usage")

EVERY = 5.0
"""Seconds between two messages."""
MOST = 2000
"""Rows of one message, which is then well below what the broker takes."""
DAY = 86_400

Key = tuple[int, str, str, str, str]
"""Days since the epoch, account, key, model as the client named it, node."""


class UsageCounter:
    """`answers`: whole answers of workers that are not summed up yet, each with the key of its row.
    The fallback counts the answers of providers, where it pays for them."""

    def __init__(self, bus: Bus, ingress: str) -> None:
        self.answers: list[tuple[Key, End]] = []
        self._bus = bus
        self._subject = subjects.usage(ingress)
        self._rows: dict[Key, list[float]] = {}
        self._told = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Hand over what was counted. What the broker does not take is kept for the next time."""
        self._sum_up()
        while self._rows:
            keys = list(self._rows)[:MOST]
            some = {key: self._rows.pop(key) for key in keys}
            self._told += 1
            headers = {"Nats-Msg-Id": f"{self._subject}:{self._told}"}
            rows = [_served(key, counts) for key, counts in some.items()]
            try:
                await self._bus.store(self._subject, headers, usage.pack(rows))
            except BusError as fault:
                log.warning("usage.kept", rows=len(some), error=str(fault))
                self._keep(some)
                return

    def _sum_up(self) -> None:
        answers, self.answers = self.answers, []
        for key, end in answers:
            row = self._rows.setdefault(key, [0, 0, 0, 0, 0.0])
            row[0] += 1
            row[1] += max(0, end.prompt_tokens)
            row[2] += max(0, end.completion_tokens)
            row[3] += max(0, end.cached_tokens)
            row[4] += end.engine_ms / 1000

    def _keep(self, rows: dict[Key, list[float]]) -> None:
        for key, counts in rows.items():
            row = self._rows.setdefault(key, [0, 0, 0, 0, 0.0])
            for at, count in enumerate(counts):
                row[at] += count


def _served(key: Key, counts: list[float]) -> Served:
    number, account, name, model, node = key
    day = datetime.fromtimestamp(number * DAY, UTC).date().isoformat()
    requests, prompt, completion, cached = map(int, counts[:4])
    sums = (requests, prompt, completion, cached, round(counts[4], 3))
    return Served(day, account, name, model, node, *sums)
