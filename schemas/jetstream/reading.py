"""Reads a stream without removing messages: once through, or as a follower."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial

import orjson
import structlog

from schemas import subjects
from schemas.bus import Bus, BusError, Message, Subscription
from schemas.jetstream import streams
from schemas.jetstream.words import status_of
from schemas.topology import NS

log = structlog.get_logger("jetstream")

HEARTBEAT = 2.0
"""Seconds of silence after which the broker sends a heartbeat to a follower."""
PATIENCE = 10.0
"""Seconds without a message after which `read` fails."""
PAUSE = 0.2
"""Seconds that a follower waits after a failed try."""
BATCH = 256
"""Messages that `read` asks for at once. It bounds the unused messages in this process."""


async def read(
    bus: Bus, stream: str, *, subject: str = "", since: float = 0.0, after: int = 0
) -> AsyncGenerator[Message, None]:
    """The messages that a stream holds now, oldest first. `subject`: "" means all. `since`: Unix
    seconds. `after`: a sequence."""
    heard: asyncio.Queue[Message] = asyncio.Queue()
    inbox = _inbox(bus)
    subscription = await bus.subscribe(inbox, heard.put_nowait)
    try:
        some = {"filter_subject": subject} if subject else {}
        made = await streams.reader(bus, stream, since, after, some)
        left = int(made["num_pending"])  # what comes later is not read, or it might never end
        while left:
            batch = min(left, BATCH)
            request = orjson.dumps({"batch": batch, "no_wait": True})
            bus.post(streams.pull_subject(stream, made["name"]), request, inbox)
            for _ in range(batch):
                yield await _heard(heard, stream)
            left -= batch
    finally:
        await subscription.stop()


async def _heard(heard: asyncio.Queue[Message], stream: str) -> Message:
    try:
        async with asyncio.timeout(PATIENCE):
            message = await heard.get()
    except TimeoutError:
        raise BusError(f"the broker fell silent while {stream} was read") from None
    if status := status_of(message):
        raise BusError(f"{stream} cannot be read: {status.why or status.code}")
    return message


class Follower:
    """Hands every message of a stream to `use`, in order and once, from `open` to `close`, even if
    the connection breaks meanwhile.

    The broker pushes messages and waits for flow-control answers in between. Nothing may be deleted
    from the stream: then a gap in the sequence always means that a message was lost on the way.
    """

    def __init__(self, bus: Bus, stream: str, use: Callable[[Message], None]) -> None:
        self.seq = 0
        self.first = 0
        """The first sequence that this follower hands on."""
        self._bus = bus
        self._stream = stream
        self._use = use
        self._since = 0.0
        self._inbox = ""
        self._heard = 0.0
        self._stale = asyncio.Event()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, since: float, last: int) -> bool:
        """Follow from `since` (Unix seconds). `last`: the newest sequence known so far. Returns
        whether the stream has any message since then."""
        self._since = since
        pending = await self._begin()
        if not pending and not self.seq:
            self.seq, self.first = last, last + 1
        self._bus.on_reconnect(self._stale.set)
        self._task = asyncio.create_task(self._keep())
        return bool(pending)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.stop()
            self._subscription = None

    async def _begin(self) -> int:
        """Start with a new consumer. An old one that survived a short break would send lost
        messages again, out of order."""
        self._inbox = inbox = _inbox(self._bus)
        if self._subscription is not None:
            await self._subscription.stop()
        self._heard = time.monotonic()
        self._subscription = await self._bus.subscribe(inbox, partial(self._hear, inbox))
        pushed = {
            "deliver_subject": inbox,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT * NS),
        }
        made = await streams.reader(self._bus, self._stream, self._since, self.seq, pushed)
        # The broker may have pushed some of the messages before it answered.
        return int(made["num_pending"] + made["delivered"]["consumer_seq"])

    def _hear(self, inbox: str, message: Message) -> None:
        if inbox != self._inbox:
            return  # a late message of an abandoned consumer
        self._heard = time.monotonic()
        if not message.data and (status := status_of(message)):
            if status.asks:
                with contextlib.suppress(BusError):
                    self._bus.post(status.asks)
            if not status.idle or status.last > self.seq > 0:  # the end, or a loss
                self._stale.set()
            return
        seq = subjects.place_of(message.reply)[0]
        if self.seq and seq > self.seq + 1:  # a loss: begin again behind the last message
            self._stale.set()
        elif seq > self.seq:
            self.first = self.first or seq
            self.seq = seq
            self._use(message)

    async def _keep(self) -> None:
        """Begin again after a loss, a reconnection, or three missing heartbeats."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._stale.wait()
            if not self._stale.is_set() and time.monotonic() - self._heard < 3 * HEARTBEAT:
                continue
            self._stale.clear()
            try:
                await self._begin()
            except BusError as fault:
                log.warning("jetstream.follow_failed", stream=self._stream, error=str(fault))
                await asyncio.sleep(PAUSE)
                self._stale.set()


def _inbox(bus: Bus) -> str:
    return f"{bus.inbox}.read.{secrets.token_hex(8)}"
