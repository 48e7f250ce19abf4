"""A model's consumer at the broker: pull jobs from it, back off when it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from functools import partial

import structlog

from schemas import subjects
from schemas.bus import Bus, BusError, Message
from schemas.jetstream.pulls import Pulls, Space
from schemas.jetstream.words import Status

log = structlog.get_logger("consumer")

_RETRY = 0.25
_SOON = 0.05
_RETRY_MAX = 2.0
"""Seconds before another request after a refusal, doubled each time up to the maximum. Shorter at
first if there is no consumer yet: an ingress makes it when it has heard this worker's card."""


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
        room: Space,
        on_job: Callable[[Pulls, Message], None],
        expires: float,
        priority: int = 0,
        most: int = sys.maxsize,
    ) -> None:
        self.model = model
        self.priority = priority
        self._lane = lane
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
        self.pulls.on_wanted = self._look_now
        self._handed = 0
        self._delay = _RETRY
        self._waits = 0.0
        """How long it was waited for the consumer last, which nobody has made yet."""
        self._missed = 0
        """Jobs that were asked for in vain since."""

    async def open(self) -> None:
        """Subscribe and pull, at first and after each reconnection. Raises BusError."""
        await self.pulls.open()
        # Refusals of an earlier connection say nothing about this one (see `_again`).
        self.pulls.postponed = self._missed = 0
        self.pulls.fill()

    def rank(self, model: str, priority: int) -> None:
        """Ask with this priority, if it is for that model."""
        if model == self.model:
            self.priority = priority
            self.pulls.rank(priority)

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
            self._delay, self._handed, self._waits = _RETRY, self.pulls.handed, 0.0
        if status.expired:
            self.pulls.fill()
            return
        if status.absent:
            self._await_consumer(status.left)
            return
        log.warning("consumer.refused", model=self.model, status=status.code, why=status.why)
        # Until then, `fill` asks for so many jobs fewer than there is room for.
        self.pulls.postponed += status.left
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay, self._again, self.pulls.inbox, status.left)
        self._delay = min(_RETRY_MAX, self._delay * 2)

    def _await_consumer(self, jobs: int) -> None:
        """All requests are repeated together, once there may be a consumer."""
        waits = self._missed > 0
        self.pulls.postponed += jobs
        self._missed += jobs
        if waits:
            return
        if not self._waits and self._lane == subjects.INTERACTIVE:  # once for each model
            log.info("consumer.awaited", model=self.model)
        self._waits = min(_RETRY_MAX, self._waits * 2) or _SOON
        asyncio.get_running_loop().call_later(self._waits, self._look_again, self.pulls.inbox)

    def _look_now(self) -> None:
        """Others would be served before: the consumer that was not there may be by now."""
        if self._missed:
            self._look_again(self.pulls.inbox)

    def _look_again(self, inbox: str) -> None:
        if inbox == self.pulls.inbox:
            self.pulls.postponed -= self._missed
            self._missed = 0
            self.pulls.fill()

    def _again(self, inbox: str, jobs: int) -> None:
        if inbox == self.pulls.inbox:  # `open` has filled the slots of a new connection already
            self.pulls.postponed -= jobs
            self.pulls.fill()
