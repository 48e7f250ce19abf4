"""The journal at the broker: writes entries, and follows the stream of all entries into a state."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import orjson
import structlog

from fallback.credits import witness
from fallback.credits.entries import Entry, EntryKind, Last, Purchase, Stored
from fallback.credits.faults import Insufficient, LedgerError
from fallback.credits.state import LedgerState, headers, parse
from fallback.credits.witness import JournalCut
from schemas import subjects, topology
from schemas.bus import Bus, BusError, Message
from schemas.jetstream import reading, streams
from schemas.jetstream.words import seconds

log = structlog.get_logger("ledger")

WINDOW = topology.CREDITS_WINDOW
SKEW = 300.0
"""Most seconds by which the clocks of ingress, fallback and broker may differ."""
PATIENCE = 10.0
"""Seconds to wait until an entry of the stream has reached the state."""
READ_PATIENCE = 3.0
"""Seconds for the broker to tell what an account holds, reconnections included."""
UNDONE = "not covered"
"""The note of a grant that gives back what could not be taken."""
T = TypeVar("T")
_STREAM = subjects.CREDITS_STREAM
_ANSWER = 2.0
"""Seconds for one answer of the broker, then the question is sent again."""
_RETRY = 0.05
_FORGET_EACH = 5000
"""The state drops old jobs once in so many entries."""


class Journal:
    """`state` knows every entry since `horizon` (Unix seconds by the broker's clock)."""

    def __init__(self, bus: Bus, replicas: int) -> None:
        self.state = LedgerState()
        self.horizon = 0.0
        self._bus = bus
        self._replicas = replicas
        self._checked = bus.epoch
        self._confirmed = 0  # the last entry that the broker told of; the state may not have it yet
        self._known: dict[str, Last] = {}
        self._last_read: dict[str, Last] = {}
        self._topped: dict[str, Last] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waits = 0  # numbers the waits, as the heap must never compare two futures
        self._follower = reading.Follower(bus, _STREAM, self._read)
        self._older: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises BusError."""
        await streams.ensure(self._bus, [topology.credits(self._replicas)])
        info = await streams.info(self._bus, _STREAM)
        last = int(info["state"]["last_seq"])
        self.horizon = seconds(info["ts"]) - WINDOW  # the broker's clock, as in entries
        if not await self._follower.open(self.horizon, last):
            self.state.seq = last  # the window is empty: `reached` must not wait for an entry
        try:
            await self.reached(last)
        except LedgerError as fault:
            why = "if it stays so, its file is damaged: put a backup back ('headrace restore')"
            raise BusError(f"{fault}; {why}") from None
        self._older = asyncio.create_task(self._read_older(self._follower.first - 1))

    async def close(self) -> None:
        if self._older is not None:
            self._older.cancel()
            await asyncio.gather(self._older, return_exceptions=True)
        await self._follower.close()

    async def put(
        self,
        account: str,
        kind: EntryKind,
        change: int,
        id: str,
        patience: float,
        purchase: Purchase | None = None,
        **about: str | int,
    ) -> Stored:
        """Write an entry. It is sent again until `patience` seconds are over, as the broker takes
        one entry for each `id`.

        Raises LedgerError; then the entry may be in the journal all the same, or still get there.
        """
        subject = subjects.credits(account)
        head = headers(kind, change, id, purchase, **about)

        async def write(timeout: float) -> dict[str, Any]:
            await self.check()
            return await self._bus.store(subject, head, timeout=timeout)

        return self._stored(account, await _tried(write, patience, "booked"))

    async def check(self) -> None:
        """Once after each reconnection: that the broker has all that it told of here. If it lost
        some, it gives their numbers anew, and nothing here is true any more. Raises BusError, and
        LedgerError for such a journal."""
        if (epoch := self._bus.epoch) == self._checked:
            return
        try:
            await witness.check_again(self._bus, max(self.state.seq, self._confirmed))
        except JournalCut as cut:
            raise LedgerError(str(cut)) from None
        self._checked = epoch

    def _stored(self, account: str, answer: dict[str, Any]) -> Stored:
        seq = int(answer["seq"])
        if answer.get("duplicate"):
            return Stored(seq, None)
        balance = int(answer["val"])
        self._know(account, Last(seq, balance))
        return Stored(seq, balance)

    async def last(self, account: str) -> Last:
        """The account as the broker has it now."""
        subject = subjects.credits(account)

        def read(timeout: float) -> Awaitable[tuple[int, bytes] | None]:
            return streams.newest(self._bus, _STREAM, subject, timeout)

        found = await _tried(read, READ_PATIENCE, "read")
        if found is None:
            return Last()
        last = Last(found[0], int(orjson.loads(found[1])["val"]))
        self._know(account, last)
        return last

    def last_read(self, account: str) -> Last:
        """The account as of its newest entry in the state."""
        return self._last_read.get(account, Last())

    def known(self, account: str) -> Last:
        """The newest that this process heard of the account, in whatever way."""
        return self._known.get(account, Last())

    def heard(self) -> Mapping[str, Last]:
        """The same of all accounts of which it heard."""
        return self._known

    def newest(self, most: int) -> list[str]:
        """Of those, the ones that changed last, the newest first."""
        return heapq.nlargest(most, self._known, key=self._known.__getitem__)

    def topped(self, account: str) -> Last | None:
        """The account as of its newest grant; None if none was read yet."""
        return self._topped.get(account)

    def near(self, account: str, percent: int) -> bool:
        """Whether so much may be used of what the account had after its last grant. What is
        available is less than what is left, which takes a question to know."""
        top = self._topped.get(account)
        if top is None:
            return False
        return 100 * (top.balance - self.known(account).balance) >= percent * top.balance

    async def covers(self, account: str, amount: int) -> bool:
        """Whether the account seems to hold `amount`; if not, the broker is asked before this says
        so. False if others overdrew the account, which lasts a moment. Raises Insufficient."""
        have = self.known(account).balance
        if have < amount:
            have = (await self.last(account)).balance
        if 0 <= have < amount:
            raise Insufficient(amount, have)
        return have >= amount

    def _know(self, account: str, last: Last) -> None:
        self._confirmed = max(self._confirmed, last.seq)
        if last.seq > self.known(account).seq:
            self._known[account] = last

    async def grant(self, account: str, amount: int, note: str = "", id: str = "") -> int:
        """Add credits, or take some back (`amount` < 0), never below zero; returns the balance.
        A repeated `id` counts once. Raises Insufficient."""
        id = f"grant:{id or secrets.token_hex(16)}"
        if amount < 0 and (have := (await self.last(account)).balance) + amount < 0:
            raise Insufficient(-amount, have)
        stored = await self.put(account, EntryKind.GRANT, amount, id, PATIENCE, note=note)
        if stored.balance is None:  # granted before, under the same id
            return (await self.last(account)).balance
        if amount < 0 and stored.balance < 0:  # spent meanwhile
            back = await self.put(
                account, EntryKind.GRANT, -amount, f"{id}:undo", PATIENCE, note=UNDONE
            )
            raise Insufficient(-amount, back.balance or 0)
        return stored.balance

    async def history(
        self, account: str, since: float = 0.0, limit: int = 0
    ) -> AsyncGenerator[Entry, None]:
        """Entries of an account (of all if `account` is ""), newest last. With a `limit`, only the
        newest ones."""
        newest: deque[Entry] = deque(maxlen=limit or None)
        with _readable():
            async with aclosing(_entries(self._bus, account, since)) as found:
                async for entry in found:
                    if limit:
                        newest.append(entry)
                    else:
                        yield entry
        for entry in newest:
            yield entry

    async def accounts(self) -> list[str]:
        """All accounts that have an entry, in alphabetical order."""
        with _readable():
            found, _ = await streams.counts(self._bus, _STREAM, subjects.ALL_CREDITS)
        return sorted(map(subjects.recorded, found))

    async def recall(self, account: str, job: str, since: float) -> None:
        """Read the entries of a job that came before the horizon into the state."""
        past = LedgerState()
        async for entry in self.history(account, since, 0):
            if entry.job == job:
                past.apply(entry)
        self.state.adopt(past)

    async def fresh(self) -> None:
        """Wait until the state holds all that was written before this call."""
        with _readable():
            info = await streams.info(self._bus, _STREAM)
        await self.reached(int(info["state"]["last_seq"]))

    async def settled(self, stored: Stored) -> None:
        """Wait until the state holds the entry that `stored` names."""
        await (self.reached(stored.seq) if stored.seq else self.fresh())

    async def reached(self, seq: int, within: float = PATIENCE) -> None:
        if self.state.seq >= seq:
            return
        news = asyncio.get_running_loop().create_future()
        self._waits += 1
        heapq.heappush(self._waiting, (seq, self._waits, news))
        try:
            async with asyncio.timeout(within):
                await news
        except TimeoutError:
            raise LedgerError(f"the journal could not be read up to entry {seq}") from None

    async def news(self, within: float) -> None:
        """Wait for the next entry, at most `within` seconds."""
        with contextlib.suppress(LedgerError):
            await self.reached(self.state.seq + 1, within)

    async def whole(self) -> None:
        """Wait until the state also has the reservations that were left open before the window."""
        if self._older is not None:
            await self._older

    def _read(self, message: Message) -> None:
        entry = parse(message)
        self.state.apply(entry)
        self._last_read[entry.account] = Last(entry.seq, entry.balance)
        self._know(entry.account, self._last_read[entry.account])
        self._note_grant(entry)
        while self._waiting and self._waiting[0][0] <= entry.seq:
            news = heapq.heappop(self._waiting)[2]
            if not news.done():  # whoever waited may have given up
                news.set_result(None)
        # Not before the older entries are read: they may hold the beginning of a reservation whose
        # end is forgotten here, and which would then be adopted as an open one.
        if not entry.seq % _FORGET_EACH and self._older is not None and self._older.done():
            limit = entry.at - WINDOW
            self.state.forget(limit)
            self.horizon = max(self.horizon, limit)

    def _note_grant(self, entry: Entry) -> None:
        if entry.kind is not EntryKind.GRANT or entry.change <= 0 or entry.note == UNDONE:
            return
        if entry.seq > self._topped.get(entry.account, Last()).seq:
            self._topped[entry.account] = Last(entry.seq, entry.balance)

    async def _read_older(self, last: int) -> None:
        """Find reservations that were left open before the window, up to the sequence `last`."""
        # Only what is still open is kept of them, however long the journal is.
        older = LedgerState()
        while last > 0:
            try:
                async with aclosing(_entries(self._bus, after=older.seq)) as found:
                    async for entry in found:
                        if entry.seq > last:
                            break
                        older.apply(entry)
                        self._note_grant(entry)
                        if not entry.seq % _FORGET_EACH:
                            older.forget(math.inf)
                break
            except BusError as fault:
                log.warning("ledger.older_unread", error=str(fault))
                await asyncio.sleep(reading.PAUSE)
        older.forget(math.inf)
        self.state.adopt(older)


async def _entries(
    bus: Bus, account: str = "", since: float = 0.0, after: int = 0
) -> AsyncGenerator[Entry, None]:
    """Entries of `account` or of all, in the order of `reading.read`. Raises BusError."""
    subject = subjects.credits(account) if account else ""
    found = reading.read(bus, _STREAM, subject=subject, since=since, after=after)
    async with aclosing(found):
        async for message in found:
            with contextlib.suppress(ValueError):  # the stream's counters should rule this out
                yield parse(message)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turn the bus's faults into LedgerError."""
    try:
        yield
    except BusError as fault:
        raise LedgerError(f"the credits cannot be read: {fault}") from None


async def _tried(ask: Callable[[float], Awaitable[T]], patience: float, done: str) -> T:
    """The broker's answer to `ask(timeout)`, which is repeated until `patience` seconds are over.
    Raises LedgerError."""
    deadline = time.monotonic() + patience
    while True:
        left = deadline - time.monotonic()
        try:
            return await ask(min(_ANSWER, max(left, 0.1)))
        except BusError as fault:
            if left <= _RETRY:
                raise LedgerError(f"the credits cannot be {done}: {fault}") from None
        await asyncio.sleep(_RETRY)
