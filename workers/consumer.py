"""Pulls jobs of one model and lane, and never more than there are free slots."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable

import structlog

from schemas import metrics, subjects, topology
from schemas.bus import Bus, BusError, Message
from schemas.jetstream import streams
from schemas.jetstream.pulls import Pulls, hand_back
from schemas.jetstream.words import ACK, Status

log = structlog.get_logger("consumer")

_RETRY = 0.25
_RETRY_MAX = 2.0


class SlotCount:
    """The slots of one engine: `all` of them, and how many are `taken`. None is free while it is
    not `open`. `on_release`: called when one is free again."""

    def __init__(self, engine: str, slots: int = 0) -> None:
        self.all = slots
        self.taken = 0
        self.open = True
        self.on_release: tuple[Callable[[], None], ...] = ()
        self._gauge = metrics.SLOTS_BUSY.labels(engine)

    def free(self) -> int:
        return self.all - self.taken if self.open else 0

    def take(self) -> None:
        self.taken += 1
        self._gauge.set(self.taken)

    def release(self) -> None:
        self.taken -= 1
        self._gauge.set(self.taken)
        for call in self.on_release:
            call()


class Puller:
    """`free`: how many slots are free now. `on_job` gets each job and must take a slot at once.
    `expires`: seconds that a request for a job waits at the broker. `most`: requests that may wait
    there."""

    def __init__(
        self,
        bus: Bus,
        model: str,
        lane: str,
        *,
        free: Callable[[], int],
        on_job: Callable[[Puller, Message], None],
        expires: float,
        priority: int = 0,
        most: int = sys.maxsize,
    ) -> None:
        self.model = model
        self._most = most
        self._bus = bus
        self._free = free
        self._on_job = on_job
        self._pulls = Pulls(
            bus,
            subjects.JOBS_STREAM,
            subjects.consumer(model, lane),
            expires=expires,
            priority=priority,
            on_message=self._take,
            on_status=self._refused,
        )
        self._postponed = 0
        self._delay = _RETRY

    async def open(self) -> None:
        """Subscribe afresh and pull; also after a reconnection. Raises BusError."""
        await self._pulls.open()
        self._postponed = 0
        self.fill()

    async def close(self) -> None:
        """Stop pulling. What the broker sent before it heard of that goes back to it at once."""
        await self._pulls.close()
        with contextlib.suppress(BusError):
            await self._bus.flush()

    def fill(self) -> None:
        """Ask for as many jobs as there are free slots."""
        while self._room() and self._pulls.ask():
            pass

    def finish(self, ack: str) -> None:
        """Ack a job whose slot is free again, and ask for the next in the same message."""
        if self._pulls.inbox and self._room():
            self._pulls.ack_and_ask(ack)
        else:
            self._bus.post(ack, ACK)

    def heal(self, now: float) -> None:
        """Ask again for what was lost with a leader of the broker, and for slots that jobs of other
        models have set free. `now`: the event loop's time."""
        if lost := self._pulls.lost(now):
            log.warning("consumer.pulls_lost", model=self.model, pulls=lost)
        self.fill()

    def _room(self) -> bool:
        return len(self._pulls) + self._postponed < min(self._free(), self._most)

    def _take(self, message: Message) -> None:
        if self._free() > 0:
            self._delay = _RETRY
            self._on_job(self, message)
        else:
            hand_back(self._bus, message.reply)

    def _refused(self, status: Status) -> None:
        if status.expired:
            self._delay = _RETRY
            self.fill()
            return
        log.warning("consumer.refused", model=self.model, status=status.code, why=status.why)
        self._postponed += 1
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay, self._again, self._pulls.inbox)
        self._delay = min(_RETRY_MAX, self._delay * 2)

    def _again(self, inbox: str) -> None:
        if inbox == self._pulls.inbox:  # `open` has filled the slots of a new connection already
            self._postponed -= 1
            self.fill()


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
