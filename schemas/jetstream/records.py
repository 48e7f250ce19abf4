"""Follows a stream that has one record for each subject, and repeats each on another subject: so no
consumer is needed, which could be made to push anywhere.

What is repeated may be lost, as the connection ends; so all is read again on each new one, and now
and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable

import orjson
import structlog

from schemas import subjects
from schemas.bus import Bus, BusError, Message
from schemas.jetstream import streams
from schemas.jetstream.words import status_of

log = structlog.get_logger("records")

READ_EACH = 60.0
"""Seconds after which all records are read again."""
PATIENCE = 5.0
"""Seconds for the next record to come while they are read."""
_AGAIN = 0.5
"""Seconds after which a read that failed is tried again."""
_BATCH = 256
_NOTHING = ("404", "408")

Last = dict[str, tuple[int, bytes]]
"""By subject: the place of its last message in the stream, and its data."""


class Records:
    """`last` is what the stream says now, once `read` is set. `changed` is called after each
    change, and once after each time that all was read. `optional`: there may be no such stream,
    which is as an empty one."""

    def __init__(
        self, bus: Bus, stream: str, changed: Callable[[], None], *, optional: bool = False
    ) -> None:
        self.last: Last = {}
        self.read = asyncio.Event()
        self.seq = 0
        """The highest place in the stream that is known here."""
        self._bus = bus
        self._stream = stream
        self._changed = changed
        self._optional = optional
        self._heard: Last = {}
        """What came since the last read began."""
        self._stale = asyncio.Event()

    async def run(self) -> None:
        """Follow it for as long as the process lives, however long it is away."""
        await self._bus.subscribe(subjects.ALL_CHANGES, self._hear)
        self._bus.on_reconnect(self._stale.set)
        said = False
        while True:
            self._stale.clear()
            try:
                await self._read_all()
                said = False
            except BusError as fault:
                if self._optional:
                    self.read.set()  # what is heard from now on counts
                    await self._rest()
                    continue
                if not said:  # one line in the log, not one for each try
                    log.warning("records.waiting", stream=self._stream, error=str(fault))
                    said = True
                await asyncio.sleep(_AGAIN)
                continue
            await self._rest()

    async def _rest(self) -> None:
        """Wait until it is time to read again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_EACH):
                await self._stale.wait()

    async def _read_all(self) -> None:
        self._heard = {}
        found = await read(self._bus, self._stream)
        for subject, heard in self._heard.items():
            found[subject] = max(heard, found.get(subject, heard))
        before, self.last = self.last, found
        self.seq = max([self.seq, *(place for place, _ in found.values())])
        if found != before or not self.read.is_set():
            self.read.set()
            self._changed()

    def _hear(self, message: Message) -> None:
        place = int((message.headers or {}).get("Nats-Sequence", 0))
        subject = subjects.changed(message.subject)
        if not place or place <= self.last.get(subject, (0, b""))[0]:
            return
        self.last[subject] = self._heard[subject] = place, message.data
        self.seq = max(self.seq, place)
        if self.read.is_set():
            self._changed()


async def read(bus: Bus, stream: str) -> Last:
    """The last message of each subject; those that are empty, too. Raises BusError."""
    found: Last = {}
    inbox = f"{bus.inbox}.records.{secrets.token_hex(8)}"
    heard: asyncio.Queue[Message] = asyncio.Queue()
    subscription = await bus.subscribe(inbox, heard.put_nowait)
    try:
        place = 1
        while place:
            asked = orjson.dumps({"batch": _BATCH, "seq": place, "next_by_subj": ">"})
            bus.post(streams.direct_subject(stream), asked, inbox)
            place = await _take(heard, found, stream)
    finally:
        await subscription.stop()
    return found


async def _take(heard: asyncio.Queue[Message], found: Last, stream: str) -> int:
    """One batch. Returns the place where the next one begins, 0 after the last. Raises BusError."""
    last = 0
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                message = await heard.get()
        except TimeoutError:
            raise BusError(f"the broker fell silent while {stream} was read") from None
        about = message.headers or {}
        if "Nats-Sequence" in about:  # "nobody listens" has a Nats-Subject, too
            last = int(about["Nats-Sequence"])
            found[about["Nats-Subject"]] = last, message.data
        elif (status := status_of(message)) is not None:
            if status.code in _NOTHING:
                return 0
            if status.code != "204":
                raise BusError(f"{stream} cannot be read: {status.why or status.code}")
            return last + 1 if int(about.get("Nats-Num-Pending", 0)) else 0
