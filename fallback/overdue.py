"""Takes overdue jobs out of the workers' queues: each call of an ingress leads to one pull, a look.

Looks have priority 9, so that a worker with an open pull goes first. The queue's first job may be
one that may not go to a provider, or not yet. It is held aside while a further look is under way,
and then put back; else the overdue jobs behind it would never be reached.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog

from fallback.policy import CloudRoutes, due
from schemas import jobs, subjects
from schemas.bus import Bus, Message, Subscription
from schemas.jetstream.pulls import Pulls, Room, hand_back
from schemas.jetstream.words import ACK
from schemas.jobs import VERSION, CodecError, OtherVersion
from schemas.strangers import Strangers

log = structlog.get_logger("overdue")

PRIORITY = 9  # the broker serves the lowest first; workers have 0
LOOK = 32
"""Most jobs of one queue that are held aside while the fallback looks behind them."""
FRESH = 1.5
"""Seconds for which a call that found no free slot is remembered; an ingress calls each second."""
_KNOWN = 10_000
"""Most calls that are remembered."""
T = TypeVar("T")
_QUEUE = f"fallback{VERSION}"
"""The queue group for calls, by version: fallbacks of another version cannot read the job."""


class OverduePuller:
    """`room`: the slots for jobs in hand. `on_job` gets each job that is due and takes a slot at
    once. For the runner, this puller is the source of these jobs."""

    def __init__(
        self,
        bus: Bus,
        routes: CloudRoutes,
        room: Room,
        on_job: Callable[[OverduePuller, Message], None],
    ) -> None:
        self._bus = bus
        self._routes = routes
        self._room = room
        self._on_job = on_job
        self._strangers = Strangers(log, "overdue.refused")
        self._queues = {model: _Queue(bus, model, self._hear) for model in routes.models()}
        self._calls: Subscription | None = None
        self._called: OrderedDict[str, float] = OrderedDict()
        self._unmet: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def open(self) -> None:
        """Raises BusError."""
        for queue in self._queues.values():
            await queue.pulls.open()
        self._calls = await self._bus.subscribe(subjects.ALL_WANTS, self._wanted, _QUEUE)

    async def close(self) -> None:
        if self._calls is not None:
            await self._calls.stop()
            self._calls = None
        for queue in self._queues.values():
            await queue.close()

    def fill(self) -> None:
        """A slot may be free: look for the jobs whose calls found none."""
        now = time.monotonic()
        while self._unmet and self._has_room():
            _, (model, since) = self._unmet.popitem(last=False)
            if now - since < FRESH:
                self._queues[model].pulls.ask()
        if not self._unmet and self.fill in self._room.on_release:
            self._room.on_release.remove(self.fill)

    def finish(self, ack: str) -> None:
        self._bus.post(ack, ACK)

    def heal(self, now: float) -> None:
        """Forget looks whose answer was lost. Runs twice a second; `now`: the event loop's time."""
        for model, queue in self._queues.items():
            if lost := queue.pulls.lost(now):
                log.warning("overdue.pulls_lost", model=model, pulls=lost)
                queue.settle()

    def _has_room(self) -> bool:
        return sum(len(queue.pulls) for queue in self._queues.values()) < self._room.free()

    def _wanted(self, message: Message) -> None:
        model, job = subjects.wanted(message.subject), message.data.decode(errors="replace")
        if model not in self._queues:
            return
        now = time.monotonic()
        # Each call is remembered: the look for one job may bring another that was called for.
        _keep(self._called, job, now)
        if self._has_room():
            self._queues[model].pulls.ask()
        else:
            _keep(self._unmet, job, (model, now))
            if self.fill not in self._room.on_release:
                # First in line: these jobs have waited longer than those that a puller would take.
                self._room.on_release.insert(0, self.fill)

    def _hear(self, queue: _Queue, message: Message) -> None:
        """Take the job if it is due; else hold it aside, and look behind it."""
        job = self._read(message)
        if job is not None and self._room.free() > 0 and self._is_due(job):
            queue.settle()
            self._on_job(self, message)
            return
        queue.aside.append(message.reply)
        if self._room.free() > 0 and len(queue.aside) < LOOK:
            queue.pulls.ask()
        queue.settle()

    def _read(self, message: Message) -> jobs.Job | None:
        """None for what is no job, or a job of another version, which others can read."""
        try:
            return jobs.unpack(message.data)
        except OtherVersion as fault:
            self._strangers.refused(message.subject, fault)
        except CodecError as fault:
            log.error("overdue.undecodable", error=str(fault))
        return None

    def _is_due(self, job: jobs.Job) -> bool:
        """A call names the job that the message holds. The message may be for another by now, so
        what that job says of itself does not matter then."""
        if self._called.pop(job.id, None) is not None:
            return True
        return due(self._routes.of(job), job, time.time() * 1000)


class _Queue:
    """The queue of one model. `aside`: the ack subjects of the jobs that are held aside."""

    def __init__(self, bus: Bus, model: str, hear: Callable[[_Queue, Message], None]) -> None:
        self.aside: list[str] = []
        self._bus = bus
        self.pulls = Pulls(
            bus,
            subjects.JOBS_STREAM,
            subjects.consumer(model, subjects.INTERACTIVE),
            expires=0,  # the broker answers at once, with a job or with an empty status
            priority=PRIORITY,
            on_message=partial(hear, self),
            on_status=lambda _: self.settle(),  # the queue is empty
        )

    async def close(self) -> None:
        await self.pulls.close()
        self._put_back()

    def settle(self) -> None:
        """Put back the jobs that are held aside, unless a look behind them is under way."""
        if not self.pulls:
            self._put_back()

    def _put_back(self) -> None:
        aside, self.aside = self.aside, []
        for ack in aside:
            hand_back(self._bus, ack)


def _keep(table: OrderedDict[str, T], job: str, value: T) -> None:
    """Add as the newest; drop the oldest beyond `_KNOWN`."""
    table[job] = value
    table.move_to_end(job)
    while len(table) > _KNOWN:
        table.popitem(last=False)
