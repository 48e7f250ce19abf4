"""Pulls jobs of one model and lane, and never more than there are free slots.

One inbox for each connection epoch and one pull request for each free slot. A pull lives
`expires` seconds, so that what a frozen worker asked for is forgotten before its lease is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from itertools import count

import orjson
import structlog

from schemas import subjects, topology
from schemas.bus import Bus, BusError, Message, Subscription

log = structlog.get_logger("consumer")

NAK = b"-NAK"
ACK = b"+ACK"
TERM = b"+TERM"
IN_PROGRESS = b"+WPI"

_RETRY = 0.25
_RETRY_MAX = 2.0
_inboxes = count()


class Puller:
    """`free`: how many slots are free now. `on_job` gets each job and must take a slot at once."""

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
    ) -> None:
        self.model = model
        self._bus = bus
        self._free = free
        self._on_job = on_job
        self._name = subjects.consumer(model, lane)
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.JOBS_STREAM}.{self._name}"
        self._expires = expires
        self._request = orjson.dumps(
            {
                "batch": 1,
                "expires": int(expires * topology.NS),
                "group": subjects.GROUP,
                "priority": priority,
            }
        )
        self._open = False
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._asked = 0
        self._heard = 0.0
        self._delay = _RETRY
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Subscribe afresh and pull; also after a reconnection. Raises BusError."""
        async with self._lock:
            await self._unsubscribe()
            self._inbox = f"{self._bus.inbox}.p.{next(_inboxes)}"
            self._subscription = await self._bus.subscribe(
                self._inbox, partial(self._receive, self._inbox)
            )
            self._asked = 0
            self._open = True
            self.fill()

    async def close(self) -> None:
        """Stop pulling. What the broker sent before it heard of that goes back to it at once."""
        async with self._lock:
            self._open = False
            await self._unsubscribe()
            with contextlib.suppress(BusError):
                await self._bus.flush()

    async def _unsubscribe(self) -> None:
        if self._subscription is not None:
            await self._subscription.stop()
            self._subscription = None

    def fill(self) -> None:
        """Ask for as many jobs as there are free slots."""
        while self._open and self._asked < self._free():
            try:
                self._bus.post(self._subject, self._request, self._inbox)
            except BusError:
                return  # `open` comes again with the next connection
            self._count()

    def finish(self, ack: str) -> None:
        """Ack a job whose slot is free again, and ask for the next in the same message."""
        if self._open and self._asked < self._free():
            self._bus.post(ack, b"+NXT " + self._request, self._inbox)
            self._count()
        else:
            self._bus.post(ack, ACK)

    def heal(self, now: float) -> None:
        """Pulls that neither brought a job nor expired were lost with a leader: ask again. And ask
        for slots that jobs of other models have set free."""
        if self._asked and now > self._heard + self._expires + 2.0:
            log.warning("consumer.pulls_lost", model=self.model, pulls=self._asked)
            self._asked = 0
        self.fill()

    def _count(self) -> None:
        if not self._asked:
            self._heard = asyncio.get_running_loop().time()
        self._asked += 1

    def _receive(self, inbox: str, message: Message) -> None:
        """`inbox`: where it came to; a job's own subject is that of the stream."""
        refusal = message.headers if message.headers and "Status" in message.headers else None
        if inbox != self._inbox:  # of an earlier connection, whose pulls do not count
            if refusal is None:
                self._hand_back(message)
            return
        self._asked = max(0, self._asked - 1)
        self._heard = asyncio.get_running_loop().time()
        if refusal is not None:
            self._refused(refusal["Status"], refusal.get("Description", ""))
        elif not self._open or self._free() <= 0:
            self._hand_back(message)
        else:
            self._delay = _RETRY
            self._on_job(self, message)

    def _hand_back(self, message: Message) -> None:
        with contextlib.suppress(BusError):  # redelivered after ack_wait
            self._bus.post(message.reply, NAK)

    def _refused(self, status: str, description: str) -> None:
        if status == "408":  # expired: as it should be while there is no work
            self._delay = _RETRY
            self.fill()
            return
        log.warning("consumer.refused", model=self.model, status=status, why=description)
        self._asked += 1  # holds the place of the pull until the delay is over
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay, self._again, self._inbox)
        self._delay = min(_RETRY_MAX, self._delay * 2)

    def _again(self, inbox: str) -> None:
        if inbox == self._inbox:
            self._asked = max(0, self._asked - 1)
            self.fill()


async def declare(
    bus: Bus, model: str, ack_wait: float, replicas: int, lane: str = subjects.INTERACTIVE
) -> None:
    """Create the model's consumer if it is not there, however long the stream takes to appear."""
    config = topology.consumer(model, lane, ack_wait, replicas)
    said = False
    while True:
        try:
            await bus.ensure_consumer(subjects.JOBS_STREAM, config)
        except BusError as fault:
            if not said:
                log.warning("consumer.waiting", model=model, error=str(fault))
                said = True
            await asyncio.sleep(0.5)
        else:
            return
