"""Takes overdue jobs out of the workers' queues: one `no_wait` pull for each time it is woken.

At priority 9, so that a worker whose pull is open goes first. The queue's head may be a job that is
not to leave the house, or not yet: it is held for the moment of a further pull, and then put back,
or the overdue ones behind it would never be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import orjson
import structlog

from fallback.policy import Routes, due
from schemas import jobs, subjects
from schemas.bus import Bus, BusError, Message, Subscription
from schemas.jobs import CodecError
from workers.consumer import ACK, NAK

log = structlog.get_logger("wants")

PRIORITY = 9
LOOK = 32
"""Jobs of one queue that are held at most while one behind them is looked for."""
FRESH = 1.5
"""Seconds for which a call that found no free slot is remembered; an ingress calls each second."""
LOST = 2.0
"""Seconds after which an answer that did not come was lost with a leader of the broker; less than a
job in hand may stay there (`ack_wait`)."""
_KNOWN = 10_000
T = TypeVar("T")
_QUEUE = "fallback"

_PULL = orjson.dumps({"batch": 1, "no_wait": True, "group": subjects.GROUP, "priority": PRIORITY})


class Wants:
    """`free`: slots that are free now. `on_job` gets each job that is due and takes a slot at once.
    It is the runner's source of these jobs, too."""

    def __init__(
        self,
        bus: Bus,
        routes: Routes,
        free: Callable[[], int],
        on_job: Callable[[Wants, Message], None],
    ) -> None:
        self._bus = bus
        self._routes = routes
        self._free = free
        self._on_job = on_job
        self._models = frozenset(routes.models())
        self._inbox = f"{bus.inbox}.w"
        self._subscriptions: list[Subscription] = []
        self._asked: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._aside: dict[str, list[str]] = {}
        self._called: OrderedDict[str, float] = OrderedDict()
        self._unmet: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def open(self) -> None:
        """Raises BusError."""
        self._asked.clear()
        self._subscriptions = [
            await self._bus.subscribe(f"{self._inbox}.*", self._receive),
            await self._bus.subscribe(subjects.ALL_WANTS, self._wanted, _QUEUE),
        ]

    async def close(self) -> None:
        for subscription in reversed(self._subscriptions):
            await subscription.stop()
        self._subscriptions = []
        for model in list(self._aside):
            self._put_back(model)

    def fill(self) -> None:
        """A slot may be free: see to those who called when none was."""
        now = time.monotonic()
        while self._unmet and self._room() > 0:
            _, (model, since) = self._unmet.popitem(last=False)
            if now - since < FRESH:
                self._pull(model)

    def finish(self, ack: str) -> None:
        self._bus.post(ack, ACK)

    def heal(self, now: float) -> None:
        """Twice a second: forget pulls whose answer was lost. `now`: the event loop's time."""
        for model, asked in self._asked.items():
            if asked and now - self._since[model] > LOST:
                log.warning("wants.pulls_lost", model=model, pulls=asked)
                self._asked[model] = 0
                self._put_back(model)

    def _room(self) -> int:
        return self._free() - sum(self._asked.values())

    def _wanted(self, message: Message) -> None:
        model, job = subjects.wanted(message.subject), message.data.decode(errors="replace")
        if model not in self._models:
            return
        now = time.monotonic()
        _keep(self._called, job, now)
        if self._room() > 0:
            self._pull(model)
        else:
            _keep(self._unmet, job, (model, now))

    def _pull(self, model: str) -> None:
        name = subjects.consumer(model, subjects.INTERACTIVE)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.JOBS_STREAM}.{name}"
        with contextlib.suppress(BusError):  # called again
            self._bus.post(subject, _PULL, f"{self._inbox}.{subjects.encode(model)}")
            self._asked[model] = self._asked.get(model, 0) + 1
            self._since[model] = asyncio.get_running_loop().time()

    def _receive(self, message: Message) -> None:
        if message.headers and "Status" in message.headers:
            # The queue is empty; its subject is the inbox, which names the model.
            self._answered(subjects.decode(message.subject.rpartition(".")[2]))
            return
        try:
            job = jobs.unpack(message.data)
        except CodecError as fault:
            log.error("wants.undecodable", error=str(fault))
            self._bus.post(message.reply, NAK)  # a newer worker may know what it is
            self._answered(subjects.parse_jobs(message.subject)[0])
            return
        if self._free() > 0 and self._is_due(job):
            self._answered(job.model)
            self._on_job(self, message)
            return
        aside = self._aside.setdefault(job.model, [])
        aside.append(message.reply)
        self._asked[job.model] = max(0, self._asked.get(job.model, 0) - 1)
        if self._free() > 0 and len(aside) < LOOK:
            self._pull(job.model)
        if not self._asked[job.model]:
            self._put_back(job.model)

    def _is_due(self, job: jobs.Job) -> bool:
        route = self._routes.of(job)
        return due(route, job, time.time() * 1000, self._called.pop(job.id, 0.0) > 0)

    def _answered(self, model: str) -> None:
        left = self._asked[model] = max(0, self._asked.get(model, 0) - 1)
        if not left:
            self._put_back(model)

    def _put_back(self, model: str) -> None:
        for ack in self._aside.pop(model, ()):
            with contextlib.suppress(BusError):  # redelivered after ack_wait
                self._bus.post(ack, NAK)


def _keep(table: OrderedDict[str, T], job: str, value: T) -> None:
    """The newest last, and no more than `_KNOWN`."""
    table[job] = value
    table.move_to_end(job)
    while len(table) > _KNOWN:
        table.popitem(last=False)
