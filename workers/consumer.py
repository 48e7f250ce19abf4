"""A model's consumer at the broker: declare it, pull jobs from it, back off when it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from functools import partial

import structlog

from schemas import subjects, topology
from schemas.bus import Bus, BusError, Message
from schemas.jetstream import streams
from schemas.jetstream.pulls import Pulls, Room
from schemas.jetstream.words import Status

log = structlog.get_logger("consumer")

_RETRY = 0.25
_RETRY_MAX = 2.0
"""Seconds before another request after a refusal, doubled each time up to the maximum."""


class Puller:
    """Pulls the jobs of one model and lane, as many as `room` has space for. After each refusal by
    the broker it waits longer. `on_job` gets `pulls` and the job, and must take its place in the
    room before it returns. `expires`: seconds that a request for a job waits at the broker.
    `most`: requests that may wait there at once."""

    def __init__(
        self,
        bus: Bus,
        model: str,
        lane: str,
        *,
        room: Room,
        on_job: Callable[[Pulls, Message], None],
        expires: float,
        priority: int = 0,
        most: int = sys.maxsize,
    ) -> None:
        self.model = model
        self._bus = bus
        self.pulls = Pulls(
            bus,
            subjects.JOBS_STREAM,
            subjects.consumer(model, lane),
            expires=expires,
            priority=priority,
            on_status=self._refused,
            room=room,
            most=most,
        )
        self.pulls.on_message = partial(on_job, self.pulls)
        self._handed = 0
        self._delay = _RETRY

    async def open(self) -> None:
        """Subscribe and pull, at first and after each reconnection. Raises BusError."""
        await self.pulls.open()
        # Refusals of an earlier connection say nothing about this one (see `_again`).
        self.pulls.postponed = 0
        self.pulls.fill()

    async def close(self) -> None:
        """Stop pulling. Jobs that were already under way go back to the broker at once."""
        await self.pulls.close()
        with contextlib.suppress(BusError):
            await self._bus.flush()  # the process may end next: what was handed back goes first

    def heal(self, now: float) -> None:
        """Repeat requests that were lost when the broker changed its leader, and ask for jobs for
        slots that other models' jobs have freed. `now`: the event loop's time."""
        if lost := self.pulls.lost(now):
            log.warning("consumer.pulls_lost", model=self.model, pulls=lost)
        self.pulls.fill()

    def _refused(self, status: Status) -> None:
        # A job since the last refusal shows that the broker is well: start the back-off afresh.
        if status.expired or self.pulls.handed != self._handed:
            self._delay, self._handed = _RETRY, self.pulls.handed
        if status.expired:
            self.pulls.fill()
            return
        log.warning("consumer.refused", model=self.model, status=status.code, why=status.why)
        # Until then, `fill` asks for one job fewer than there is room for.
        self.pulls.postponed += 1
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay, self._again, self.pulls.inbox)
        self._delay = min(_RETRY_MAX, self._delay * 2)

    def _again(self, inbox: str) -> None:
        if inbox == self.pulls.inbox:  # `open` has filled the slots of a new connection already
            self.pulls.postponed -= 1
            self.pulls.fill()


async def declare(
    bus: Bus, model: str, ack_wait: float, replicas: int, lane: str = subjects.INTERACTIVE
) -> None:
    """Create the model's consumer if there is none; wait for the stream, however long it takes."""
    config = topology.consumer(model, lane, ack_wait, replicas)
    said = False
    while True:
        try:
            await streams.ensure_consumer(bus, subjects.JOBS_STREAM, config)
        except BusError as fault:
            if not said:  # one line in the log, not one for each try
                log.warning("consumer.waiting", model=model, error=str(fault))
                said = True
            await asyncio.sleep(0.5)
        else:
            return
