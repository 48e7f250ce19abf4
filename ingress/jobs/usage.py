"""Counts what workers served, by day, key, model and node, and hands the sums to the broker. What
workers began counts, too, by the time for which they had a slot for it.

A request only appends its answer to a list. The list is summed up at once if nothing was handed
over lately, else after a pause, so a killed ingress loses the answers of that pause at most.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import add
from typing import Any, NamedTuple

import structlog

from ingress.jobs.custody import Tenure
from ingress.jobs.ticket import Ticket
from schemas import subjects, usage
from schemas.bus import Bus, BusError
from schemas.frames import End
from schemas.jobs import Job
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

_HIT = (1, 0, 0, 0, 0.0, 0, 0, 0, 0, 1)
"""What a request adds whose answer was there already."""

Key = tuple[int, str, str, str, str]
"""Days since the epoch, account, key, model as the client named it, node."""


class Slot(NamedTuple):
    """A slot was held for `seconds` without a whole answer. `failed`: nor had the request one from
    anybody else."""

    seconds: float
    failed: bool


class UsageCounter:
    """The fallback counts the answers of providers, where it pays for them."""

    def __init__(self, bus: Bus, ingress: str) -> None:
        self._bus = bus
        self._ingress = ingress
        self._used: deque[tuple[Key, End | Slot | None, bool]] = deque()
        """What workers did and what is not summed up yet, and whether it counts as a request. None:
        nobody did anything, as the answer was there already."""
        self._counted = asyncio.Event()
        """Set by who appends to that."""
        self._rows: dict[Key, tuple[float, ...]] = {}
        self._window = 0
        self._opened = 0.0

    def count(self, ticket: Ticket) -> None:
        """Count what workers did for a request that is over."""
        received, node = ticket.received, ticket.node
        end, head = received.ended, received.head
        lost = [_slot(each) for each in ticket.custody.lost if not each.by_provider]
        if end is not None and node is not None and head is not None and head.status == 200:
            self._append(ticket.job, node, end)
            if not lost:
                return  # as nearly all
            slots = lost
        else:
            slots = [*lost, *_held(ticket)]
        failed = end is None or head is None or head.status != 200
        for number, (where, seconds) in enumerate(slots, 1):
            # Only the last one counts as the request's.
            self._append(ticket.job, where, Slot(seconds, failed and number == len(slots)))

    def kept(self, account: str, key: str, asked: str) -> None:
        """Count a request that was answered with what was there already."""
        self._used.append(((int(time.time()) // DAY, account, key, asked, ""), None, True))
        self._counted.set()

    def _append(self, job: Job, node: str, used: End | Slot) -> None:
        key = (int(time.time()) // DAY, job.account, job.key, job.asked, node)
        self._used.append((key, used, job.leads))
        self._counted.set()

    async def run(self) -> None:
        while True:
            await self._counted.wait()
            await asyncio.sleep(PAUSE if await self.flush() else AGAIN)

    async def flush(self) -> bool:
        """Hand over what was counted. False if the broker does not take it: it is kept, for the
        next time."""
        while self._counted.is_set():
            self._sum_up()
            rows = [_served(key, counts) for key, counts in self._rows.items()]
            subject = subjects.usage(self._ingress, self._window)
            try:
                await self._bus.store(subject, usage.REPLACING, usage.pack(rows))
            except BusError as fault:
                log.warning("usage.kept", rows=len(rows), error=str(fault))
                self._counted.set()
                return False
            # The next window has another subject: what the broker has of this one stays.
            if len(rows) >= MOST or time.monotonic() - self._opened > WINDOW:
                self._window += 1
                self._rows.clear()
        return True

    def _sum_up(self) -> None:
        if not self._rows:
            self._opened = time.monotonic()
        while self._used and len(self._rows) < MOST:
            key, used, counts = self._used.popleft()
            more, row = _sums(used, counts), self._rows.get(key)
            self._rows[key] = more if row is None else tuple(map(add, row, more))
        if not self._used:
            self._counted.clear()


def _slot(lost: Tenure) -> tuple[str, float]:
    return lost.node, lost.until - lost.since


def _held(ticket: Ticket) -> list[tuple[str, float]]:
    """The node whose worker has the job still, and for how many seconds."""
    holder = ticket.holder
    if holder is None or holder.claim.by_provider:
        return []
    return [(holder.claim.node, time.monotonic() - holder.since)]


def _sums(used: End | Slot | None, counts: bool) -> tuple[float, ...]:
    """What is added to the numbers of a row, in the order of `Served`."""
    if used is None:
        return _HIT
    if isinstance(used, Slot):
        return (0, 0, 0, 0, used.seconds, int(used.failed and counts), 0, 0, 0, 0)
    tokens = (used.prompt_tokens, used.completion_tokens, used.cached_tokens)
    made = (used.images, used.characters, used.audio_ms / 1000)
    # -1: not known
    return (int(counts), *(max(0, number) for number in tokens), used.engine_ms / 1000, 0, *made, 0)


def _served(key: Key, sums: Sequence[float]) -> Served:
    number, *names = key
    day = datetime.fromtimestamp(number * DAY, UTC).date().isoformat()
    fields: Any = (day, *names, *(round(found, 3) for found in sums))
    return Served(*fields)
