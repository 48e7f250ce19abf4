"""A model's consumer: declared, pulled from, and left alone for a while where it refuses."""

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


class Puller:
    """Pulls jobs of one model and lane, as many as there is `room` for; waits longer and longer
    where the broker refuses. `on_job` gets each job with its source, which is `pulls`, and must
    take of the room at once. `expires`: seconds that a request for a job waits at the broker.
    `most`: requests that may wait there."""

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
        """Subscribe afresh and pull; also after a reconnection. Raises BusError."""
        await self.pulls.open()
        self.pulls.postponed = 0
        self.pulls.fill()

    async def close(self) -> None:
        """Stop pulling. What the broker sent before it heard of that goes back to it at once."""
        await self.pulls.close()
        with contextlib.suppress(BusError):
            await self._bus.flush()

    def heal(self, now: float) -> None:
        """Ask again for what was lost with a leader of the broker, and for slots that jobs of other
        models have set free. `now`: the event loop's time."""
        if lost := self.pulls.lost(now):
            log.warning("consumer.pulls_lost", model=self.model, pulls=lost)
        self.pulls.fill()

    def _refused(self, status: Status) -> None:
        if status.expired or self.pulls.handed != self._handed:
            self._delay, self._handed = _RETRY, self.pulls.handed
        if status.expired:
            self.pulls.fill()
            return
        log.warning("consumer.refused", model=self.model, status=status.code, why=status.why)
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
    """Create the model's consumer if it is not there, however long the stream takes to appear."""
    config = topology.consumer(model, lane, ack_wait, replicas)
    said = False
    while True:
        try:
            await streams.ensure_consumer(bus, subjects.JOBS_STREAM, config)
        except BusError as fault:
            if not said:
                log.warning("consumer.waiting", model=model, error=str(fault))
                said = True
            await asyncio.sleep(0.5)
        else:
            return
