"""What those who wait are told: their place in the queue of their model, and when their turn comes.

Once a second, and only while somebody waits: nothing here is done for a request that is served at
once. The order is the fair one of this ingress' own jobs. If others have some, too, places are
stretched to what the broker says of the whole queue.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from ingress.jobs.fair import Queues
from ingress.jobs.pace import Pace
from ingress.jobs.ticket import Ticket
from schemas import metrics, subjects
from schemas.bus import Bus, BusError, Message
from schemas.jetstream import queues, streams
from schemas.jetstream.queues import Queue
from schemas.jobs import Job
from schemas.waiting import Waiting, pack, summed

log = structlog.get_logger("line")

LANES = (subjects.INTERACTIVE, subjects.BATCH)
"""Those of all nodes, in the order in which they are served."""
EACH = 1.0
"""Seconds between two looks."""
_SETTLED = 0.2
"""Seconds after which a job that nobody has waits, and is not just on its way to a worker."""
_ROWS = 5000
"""Most rows of who waits in one message."""
_ASKING = 1.0
"""Seconds that the broker has to tell of a queue."""


class Place(NamedTuple):
    """`position`: 1 is the next. `turn`: when it should be served, in monotonic seconds; None if
    that is not known."""

    position: int
    turn: float | None

    def eta(self, now: float) -> float | None:
        """Seconds until it should be served."""
        return None if self.turn is None else max(0.0, self.turn - now)


@dataclass(slots=True)
class _Queue:
    """One model and lane. `length`: the jobs that wait in it, as the broker said last."""

    pace: Pace = field(default_factory=Pace)
    length: int = 0


class Line:
    """`places`: by job, of all that waited at the last look for a model that workers serve.
    `began`: the position at which a job in flight was queued behind others."""

    def __init__(
        self,
        bus: Bus,
        tickets: Mapping[str, Ticket],
        own: Queues,
        workers: Callable[[str, str], Collection[str]],
        expected: Callable[[str, str], float],
        patience: float,
    ) -> None:
        """`workers`: who serves a model and lane. `expected`: seconds between two of its jobs, by
        slots and the last answers; 0.0 if unknown. `patience`: seconds after which a batch job
        becomes interactive."""
        self.places: dict[str, Place] = {}
        self.began: dict[str, int] = {}
        self._bus = bus
        self._tickets = tickets
        self._own = own
        self._workers = workers
        self._expected = expected
        self._patience = patience
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._lengths: dict[str, dict[str, Queue]] = {}
        self._read = 0.0
        """When those were read."""
        self._reading = asyncio.Lock()
        self._counted: set[tuple[str, str]] = set()
        """The models and kinds of lanes of which jobs waited at the last look."""

    def note(self, job: Job) -> None:
        """Remember where a job is queued. There are others that wait."""
        own = self._own.of(job.model, job.lane)
        ahead = 0
        if job.lane == subjects.BATCH:
            ahead = len(self._own.of(job.model, subjects.INTERACTIVE))
        if len(own) + ahead > 1:
            self.began[job.id] = ahead + own.place_of_last(job.account)

    async def open(self, ingress: str) -> None:
        """Answer who asks for all that wait here."""

        def told(message: Message) -> None:
            with suppress(BusError):  # who asks asks again
                self._bus.post(message.reply, pack(ingress, self.waiting(time.monotonic())[:_ROWS]))

        await self._bus.subscribe(subjects.ASK_QUEUES, told)

    def waiting(self, now: float) -> list[Waiting]:
        """By model, lane and account: how many jobs wait here, and for how long."""
        rows = (
            Waiting(model, lane, ticket.job.account, 1, now - ticket.times.queued)
            for model, lane, queue in self._own
            for ticket in filter(None, map(self._tickets.get, queue))
        )
        return summed(rows)

    async def lengths(self, now: float) -> dict[str, dict[str, Queue]]:
        """By model and lane: the queues of all ingresses, of which the broker is asked once a
        second at most. Raises BusError."""
        async with self._reading:
            if now - self._read > EACH or not self._read:
                found = defaultdict[str, dict[str, Queue]](dict)
                for queue in await queues.read(self._bus):
                    if queue.lane in subjects.LANES or subjects.is_pinned(queue.lane):
                        found[queue.model][queue.lane] = queue
                self._lengths, self._read = dict(found), now
        rows = self.waiting(now)
        return {
            model: {queue.lane: queue for queue in queues.counted(lanes.values(), rows)}
            for model, lanes in self._lengths.items()
        }

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EACH)
            await self.look(time.monotonic())

    async def look(self, now: float) -> None:
        """Find the places of all that wait."""
        self._count(now)
        waiting = self._waiting()
        asked = [
            (model, lane)
            for model, lanes in waiting.items()
            if any(self._has_waited(job, now) for own in lanes.values() for job in own)
            for lane in {subjects.INTERACTIVE, *lanes}
        ]
        # Of what nobody waits for, the pace is forgotten.
        self._queues = {key: self._queues.get(key) or _Queue() for key in asked}
        await asyncio.gather(*(self._ask(*key, now) for key in asked))
        self.places = {
            job: place
            for model, lanes in waiting.items()
            for job, place in self._placed(model, lanes, now)
        }
        self.began = {job: first for job, first in self.began.items() if job in self._tickets}

    def _count(self, now: float) -> None:
        lengths = Counter[tuple[str, str]]()
        oldest = defaultdict[tuple[str, str], float](float)
        for model, lane, queue in self._own:
            kind = metrics.model_label(model), subjects.lane_kind(lane)
            lengths[kind] += len(queue)
            since = (ticket.times.queued for ticket in filter(None, map(self._tickets.get, queue)))
            oldest[kind] = max(oldest[kind], now - min(since, default=now))
        for kind in self._counted | lengths.keys():
            metrics.WAITING.labels(*kind).set(lengths[kind])
            metrics.OLDEST.labels(*kind).set(oldest[kind])
        self._counted = set(lengths)

    def _has_waited(self, job: str, now: float) -> bool:
        ticket = self._tickets.get(job)
        return ticket is not None and now - ticket.times.freed > _SETTLED

    def pace(self, model: str, lane: str) -> float:
        """Seconds between two jobs that are given out; 0.0 if that is not known."""
        queue = self._queues.get((model, lane))
        expected = self._expected(model, lane)
        return queue.pace.each(expected) if queue is not None else expected

    def _waiting(self) -> dict[str, dict[str, dict[str, int]]]:
        """By model and lane: the jobs, with their places among those of this ingress."""
        found = defaultdict[str, dict[str, dict[str, int]]](dict)
        for model, lane, queue in self._own:
            if self._workers(model, lane):
                found[model][lane] = queue.positions()
        return found

    async def _ask(self, model: str, lane: str, now: float) -> None:
        """Hear from the broker how long a queue is, and how many jobs were given out of it."""
        queue = self._queues[model, lane]
        try:
            name = subjects.consumer(model, lane)
            found = await streams.consumer(self._bus, subjects.JOBS_STREAM, name, _ASKING)
        except BusError as fault:
            log.warning("line.not_told", model=model, error=str(fault))
            return
        queue.length = found["num_pending"]
        queue.pace.look(now, found["delivered"]["consumer_seq"])

    def _placed(
        self, model: str, lanes: Mapping[str, Mapping[str, int]], now: float
    ) -> Iterator[tuple[str, Place]]:
        """The places in all lanes: all that is interactive is before all of the batch lane. A node
        takes what is pinned to it in turn with what is for all, and here they are not added up."""
        for lane in filter(subjects.is_pinned, lanes):
            each, length = self.pace(model, lane), self._length(model, lane, lanes[lane])
            for job, rank in lanes[lane].items():
                position = round(rank * length / len(lanes[lane]))
                yield job, Place(position, now + position * each if each else None)
        ahead, before = 0, 0.0
        for lane in LANES:
            own, each = lanes.get(lane, {}), self.pace(model, lane)
            length = self._length(model, lane, own)
            for job, rank in own.items():
                position = round(rank * length / len(own))
                eta = before + position * each
                if lane == subjects.BATCH:
                    eta = min(eta, before + self._left(job, now))
                yield job, Place(ahead + position, now + eta if each else None)
            ahead, before = ahead + length, before + length * each

    def _length(self, model: str, lane: str, own: Mapping[str, int]) -> int:
        """Of a queue, of which this ingress has its `own` jobs."""
        queue = self._queues.get((model, lane))
        return max(len(own), queue.length if queue is not None else 0)

    def _left(self, job: str, now: float) -> float:
        """Seconds until a batch job becomes interactive."""
        ticket = self._tickets.get(job)
        return max(0.0, self._patience - (now - ticket.times.queued)) if ticket is not None else 0.0
