"""Reads the books: once through, or on and on. Raises BusError where the broker is away.

Both are ephemeral push consumers with flow control: the broker sends on once it was told that what
it sent has been read. Nothing is ever deleted from the stream, so its sequence has no holes, and
one that shows was a loss on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from fallback.credits import entries
from fallback.credits.entries import Entry
from schemas import subjects, topology
from schemas.bus import Bus, BusError, Message, Subscription

log = structlog.get_logger("ledger")

HEARTBEAT = 2.0
"""Seconds of silence after which the broker says that there is nothing new."""
PATIENCE = 10.0
"""Seconds without a word, after which a reading has failed."""
PAUSE = 0.2
"""Seconds between two tries to follow again."""
_IDLE = "100"


async def read(
    bus: Bus, account: str = "", since: float = 0.0, after: int = 0
) -> AsyncGenerator[Entry, None]:
    """What the books hold now, oldest first: of `account` or of all, `since` Unix seconds or
    `after` a sequence."""
    heard: asyncio.Queue[Message] = asyncio.Queue()
    inbox = _inbox(bus)
    subscription = await bus.subscribe(inbox, heard.put_nowait)
    try:
        made = await _consume(bus, inbox, _start(since, after), account)
        left = made["num_pending"] + made["delivered"]["consumer_seq"]
        while left:
            message = await _next(heard)
            if _status(message):
                _answer(bus, message)
                continue
            left = subjects.place_of(message.reply)[2]
            with contextlib.suppress(ValueError):  # not of a counter: cannot be, says the stream
                yield entries.parse(message)
    finally:
        await subscription.stop()


async def _next(heard: asyncio.Queue[Message]) -> Message:
    try:
        async with asyncio.timeout(PATIENCE):
            return await heard.get()
    except TimeoutError:
        raise BusError("the broker fell silent while the books were read") from None


class Follower:
    """Hands every entry to `use`, in order and once, from `open` to `close`, whatever happens to
    the connection meanwhile."""

    def __init__(self, bus: Bus, use: Callable[[Entry], None]) -> None:
        self.seq = 0
        self.first = 0
        """The sequence at which it began."""
        self._bus = bus
        self._use = use
        self._since = 0.0
        self._heard = 0.0
        self._stale = asyncio.Event()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, since: float, last: int) -> bool:
        """Follow from `since` (Unix seconds); `last` is the newest sequence as known before.
        Returns whether there is anything since. Raises BusError."""
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
        """A consumer of its own for each connection: one that lives on after a blip would repeat
        what was lost out of order."""
        inbox = _inbox(self._bus)
        if self._subscription is not None:
            await self._subscription.stop()
        self._heard = time.monotonic()
        self._subscription = await self._bus.subscribe(inbox, lambda each: self._hear(inbox, each))
        self._inbox = inbox
        made = await _consume(self._bus, inbox, _start(self._since, self.seq))
        return int(made["num_pending"] + made["delivered"]["consumer_seq"])

    def _hear(self, inbox: str, message: Message) -> None:
        if inbox != self._inbox:
            return  # late, from a consumer that was given up
        self._heard = time.monotonic()
        if status := _status(message):
            _answer(self._bus, message)
            if status != _IDLE or _last(message) > self.seq > 0:
                self._stale.set()
            return
        entry = entries.parse(message)
        if self.seq and entry.seq > self.seq + 1:
            self._stale.set()
        elif entry.seq > self.seq:
            self.first = self.first or entry.seq
            self.seq = entry.seq
            self._use(entry)

    async def _keep(self) -> None:
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
                log.warning("ledger.follow_failed", error=str(fault))
                await asyncio.sleep(PAUSE)
                self._stale.set()


def _inbox(bus: Bus) -> str:
    return f"{bus.inbox}.books.{secrets.token_hex(8)}"


def _start(since: float, after: int) -> dict[str, Any]:
    if after:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
    if since <= 0:
        return {"deliver_policy": "all"}
    moment = datetime.fromtimestamp(since, UTC).isoformat()
    return {"deliver_policy": "by_start_time", "opt_start_time": moment}


async def _consume(
    bus: Bus, inbox: str, start: dict[str, Any], account: str = ""
) -> dict[str, Any]:
    config = {
        **start,
        "deliver_subject": inbox,
        "ack_policy": "none",
        "flow_control": True,
        "idle_heartbeat": int(HEARTBEAT * topology.NS),
        "inactive_threshold": 30 * topology.NS,
        "mem_storage": True,
        "num_replicas": 1,
    }
    if account:
        config["filter_subject"] = subjects.credits(account)
    stream = subjects.CREDITS_STREAM
    return await bus.api(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})


def _status(message: Message) -> str:
    """ "" for an entry, "100" for a heartbeat or a pause of the flow control, else an end."""
    return (message.headers or {}).get("Status", "") if not message.data else ""


def _last(message: Message) -> int:
    """The newest sequence that was sent, as a heartbeat tells it."""
    return int((message.headers or {}).get("Nats-Last-Stream", 0))


def _answer(bus: Bus, message: Message) -> None:
    """Let a stalled flow go on: the broker asks by a reply subject, or names it in a heartbeat."""
    asked = message.reply or (message.headers or {}).get("Nats-Consumer-Stalled", "")
    if asked:
        with contextlib.suppress(BusError):
            bus.post(asked)
