"""Reads a stream without removing messages: once through, or as a follower."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import orjson
import structlog

from schemas import subjects
from schemas.bus import Bus, BusError, Message, Subscription
from schemas.jetstream import streams
from schemas.jetstream.words import status_of
from schemas.topology import NS
from schemas.watched import watched

log = structlog.get_logger("jetstream")

HEARTBEAT = 2.0
"""Seconds of silence after which the broker sends a heartbeat to a follower."""
PATIENCE = 10.0
"""Seconds without a message after which `read` fails."""
PAUSE = 0.2
"""Seconds that a follower waits after a failed try."""
LOOKS = 20
"""How often `read_rolled` looks at a stream that goes on changing."""
_VAIN = 2
"""Looks in a row that found nothing, after which there is nothing."""
BATCH = 256
"""Messages that `read` asks for at once. It bounds the unused messages in this process."""


class NothingLeft(BusError):
    """Fewer messages are there than the broker had counted."""


async def read(
    bus: Bus, stream: str, *, subject: str = "", since: float = 0.0, after: int = 0
) -> AsyncGenerator[Message, None]:
    """The messages that a stream holds now, oldest first. `subject`: "" means all. `since`: Unix
    seconds. `after`: a sequence."""
    some = {"filter_subject": subject} if subject else {}
    async with _opened(bus, stream) as pulled:
        made = await streams.reader(bus, stream, since, after, some)
        async with aclosing(pulled.messages(made)) as found:
            async for message in found:
                yield message


async def read_rolled(
    bus: Bus, stream: str, *, since: float = 0.0
) -> AsyncGenerator[Message, None]:
    """As `read`, of a stream whose messages replace each other: one that is counted may be gone
    before it comes, and its successor is found by another look. So is what the broker did not
    count: while a reader is made, a message that is replaced may be taken off its count twice
    (nats-server's decStreamPending). Such a stream may be read often, so the broker is told when a
    reader is not used any more."""
    last = int((await streams.info(bus, stream))["state"]["last_seq"])
    seq = vain = 0
    for _ in range(LOOKS):
        # With an inbox of its own: what the look before did not wait for still comes to that one's.
        async with _opened(bus, stream) as pulled:
            made = await streams.reader(bus, stream, 0.0 if seq else since, seq, {})
            left = int(made["num_pending"])
            vain = 0 if left else vain + 1
            try:
                async with aclosing(pulled.messages(made)) as found:
                    async for message in found:
                        seq, left = subjects.place_of(message.reply)[0], left - 1
                        yield message
                        if not subjects.left_of(message.reply):
                            break
            except NothingLeft:
                pass
            finally:
                streams.forget(bus, stream, made["name"])
        if left <= 0 and (seq >= last or vain == _VAIN):
            return
    raise BusError(f"{stream} changes too fast to be read")


class _Pulled:
    """What the broker sends to one inbox."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self.inbox = _inbox(bus)
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self._bus = bus
        self._stream = stream

    async def messages(self, made: Mapping[str, Any]) -> AsyncGenerator[Message, None]:
        """As many as a new reader has; what comes later is not read, or it might never end. Raises
        BusError."""
        left = int(made["num_pending"])
        while left:
            batch = min(left, BATCH)
            request = orjson.dumps({"batch": batch, "no_wait": True})
            self._bus.post(streams.pull_subject(self._stream, made["name"]), request, self.inbox)
            for _ in range(batch):
                yield await self._next()
            left -= batch

    async def _next(self) -> Message:
        stream = self._stream
        try:
            async with asyncio.timeout(PATIENCE):
                message = await self.heard.get()
        except TimeoutError:
            raise BusError(f"the broker fell silent while {stream} was read") from None
        if status := status_of(message):
            kind = NothingLeft if status.over else BusError
            raise kind(f"{stream} cannot be read: {status.why or status.code}")
        return message


@contextlib.asynccontextmanager
async def _opened(bus: Bus, stream: str) -> AsyncIterator[_Pulled]:
    pulled = _Pulled(bus, stream)
    subscription = await bus.subscribe(pulled.inbox, pulled.heard.put_nowait)
    try:
        yield pulled
    finally:
        await subscription.stop()


class Follower:
    """Hands every message of a stream to `use`, in order and once, from `open` to `close`, even if
    the connection breaks meanwhile.

    The broker pushes messages and waits for flow-control answers in between. Each consumer numbers
    what it delivers, so a gap always means that a message was lost on the way.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        use: Callable[[Message], None],
        anew: Callable[[], None] | None = None,
    ) -> None:
        """`anew`: for a stream whose later messages replace earlier ones. It is called each time
        before the stream is read from its start, which it is then after every loss."""
        self.seq = 0
        self.heard = 0.0
        """When the broker said anything of the stream, by the monotonic clock."""
        self.first = 0
        """The first sequence that this follower hands on."""
        self._bus = bus
        self._stream = stream
        self._use = use
        self._since = 0.0
        self._inbox = ""
        self._begun = 0.0
        self._anew = anew
        self._delivered = 0
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
        self._task = asyncio.create_task(watched("follower", self._keep))
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
        self._begun = time.monotonic()
        self._delivered = 0
        if self._anew is not None:
            self.seq = 0
            self._anew()
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
        self.heard = time.monotonic()
        if not message.data and (status := status_of(message)):
            if status.asks:
                with contextlib.suppress(BusError):
                    self._bus.post(status.asks)
            if not status.idle or status.last > self._delivered:  # the end, or a loss
                self._stale.set()
            return
        seq, number = subjects.place_of(message.reply)[0], subjects.number_of(message.reply)
        if number > self._delivered + 1:  # a loss: begin again behind the last message
            self._stale.set()
            return
        self._delivered = number
        if seq > self.seq:
            self.first = self.first or seq
            self.seq = seq
            self._use(message)

    async def _keep(self) -> None:
        """Begin again after a loss, a reconnection, or three missing heartbeats."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._stale.wait()
            silence = time.monotonic() - max(self.heard, self._begun)
            if not self._stale.is_set() and silence < 3 * HEARTBEAT:
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
