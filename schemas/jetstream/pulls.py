"""Pull requests to a durable consumer: asks for messages, counts requests, hands messages back."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Protocol

import orjson

from schemas import subjects
from schemas.bus import Bus, BusError, Message, Subscription
from schemas.jetstream import streams
from schemas.jetstream.words import ACK, ACK_AND_ASK, NAK, Status, status_of
from schemas.topology import NS

LOST = 2.0
"""Seconds after the end of a request at which it counts as lost, for example because the broker
changed its leader. Less than `ack_wait`, so that a job that was set aside meanwhile still lives."""
LATE = 1.0
"""Seconds after the end of a request during which an answer may still come."""
GRACE = 0.01
"""Seconds that the broker has to answer a pull before other pulls may be sent for the same slot. It
takes 0.3 ms (measured); if it takes longer, the others may be answered first."""
_inboxes = count()


def hand_back(bus: Bus, ack: str, after: float = 0.0) -> None:
    """Give a message back, to be delivered again `after` so many seconds. If the broker is away, it
    delivers the message again after ack_wait anyway."""
    with contextlib.suppress(BusError):
        bus.post(ack, b'%b {"delay": %d}' % (NAK, after * NS) if after else NAK)


class Space(Protocol):
    """What messages are pulled for."""

    def free(self) -> int:
        """How many messages there is room for."""


class Room:
    """Slots for messages in hand, shared by several `Pulls`. `size`: all slots. `taken`: slots in
    use. `open`: if false, no slot is free. `tell` gets the number of taken slots at each change;
    the functions in `on_release` are called when a slot is released."""

    def __init__(self, size: int = 0, tell: Callable[[int], None] = lambda taken: None) -> None:
        self.size = size
        self.taken = 0
        self.open = True
        self.on_release: list[Callable[[], None]] = []
        self._tell = tell

    def free(self) -> int:
        return self.size - self.taken if self.open else 0

    def take(self) -> None:
        self.taken += 1
        self._tell(self.taken)

    def untake(self) -> None:
        """A slot that was kept is to be taken again in this turn, or nobody can use it now."""
        self.taken -= 1
        self._tell(self.taken)

    def release(self) -> None:
        self.untake()
        for call in tuple(self.on_release):  # a copy, because a call may change the list
            call()


class Request:
    """One at the broker: when it was sent, and how many messages it may still bring."""

    __slots__ = ("at", "left")

    def __init__(self, at: float, left: int) -> None:
        self.at = at
        self.left = left


class Pulls:
    """Requests for messages to a durable consumer, counted until they are answered.

    One request asks for as many messages as there is room for: the broker keeps those that wait in
    a list, which costs it the more the longer it is. It serves the lowest `priority` first, and in
    turn those of the same one. A request lives `expires` seconds, so that the requests of a frozen
    process end before its lease; with 0 seconds the broker answers at once.

    `on_message` and `on_status` get the answers. `on_message` may be set later, and must take a
    slot of the `room` at once. A message goes back to the broker if it comes after `close`, answers
    a request of an earlier connection, or finds no room.

    `fill` asks for as many messages as there is room for, less `postponed`, for `most` at most.
    Without a `room`, `fill` does nothing, and the caller uses `ask`. What expired while at least
    half of the room is still asked for *rests*: it is asked for with the rest, or once a message
    comes. So requests that were sent one by one, as jobs ended, become one again while none comes.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        *,
        expires: float,
        priority: int,
        on_status: Callable[[Status], None],
        on_message: Callable[[Message], None] | None = None,
        room: Space | None = None,
        most: int = sys.maxsize,
    ) -> None:
        self.inbox = ""
        """Where the subjects of answers begin: a new one for each connection, empty while closed.
        The number behind it is that of the messages that were asked for."""
        self.on_message = on_message
        self.postponed = 0
        self.handed = 0
        """Messages that `on_message` got."""
        self.first: Callable[[], object] | None = None
        """Called before this asks for messages, as others are to have room first."""
        self._room = room
        self._most = most
        self._bus = bus
        self._subject = streams.pull_subject(stream, consumer)
        self._expires = expires
        self.rank(priority)
        self._on_status = on_status
        self._asked: deque[Request] = deque()
        self._open = self._resting = 0
        """Messages that requests at the broker may still bring, and those that rest."""
        self._subscription: Subscription | None = None
        self._lock = asyncio.Lock()  # a reconnection may call `open` while `close` still waits

    def rank(self, priority: int) -> None:
        """Ask with this priority from now on. Requests that wait keep theirs until they end."""
        ends = self._expires
        until = {"expires": int(ends * NS)} if ends else {"no_wait": True}
        terms = {**until, "group": subjects.GROUP, "priority": priority}
        self._terms = orjson.dumps(terms).removeprefix(b"{")

    def __len__(self) -> int:
        """Messages that were asked for, and have not come."""
        return self._open + self._resting

    async def open(self) -> None:
        """Get ready to ask. Also for a reconnection, because the broker forgets open requests."""
        async with self._lock:
            await self._unsubscribe()
            inbox = f"{self._bus.inbox}.p.{next(_inboxes)}"
            receive = partial(self._receive, inbox)
            self._subscription = await self._bus.subscribe(f"{inbox}.*", receive)
            self._time = asyncio.get_running_loop().time
            self.inbox = inbox

    async def close(self) -> None:
        async with self._lock:
            await self._unsubscribe()

    async def _unsubscribe(self) -> None:
        self.inbox = ""
        self._asked.clear()
        self._open = self._resting = 0
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.stop()

    def ask(self, messages: int = 1) -> bool:
        """Send one request. False while closed or while the broker is away; then `open` again."""
        if not self._reachable():
            return False
        try:
            self._bus.post(self._subject, self._request(messages), f"{self.inbox}.{messages}")
        except BusError:
            return False
        self._note(messages)
        return True

    def fill(self) -> None:
        """Ask for as many messages as there is room for."""
        if self.first is not None:
            self.first()
        wanted = self._wanted()
        if wanted > len(self) or 2 * self._open < wanted:
            self.ask(wanted - self._open)

    def finish(self, ack: str) -> None:
        """Ack a finished message, and ask for the next in the same message. Raises BusError."""
        if self.first is not None:
            self.first()
        wanted = self._wanted()
        if wanted <= len(self) or not self._reachable():
            self._bus.post(ack, ACK)
            return
        messages = wanted - self._open
        asks = ACK_AND_ASK + self._request(messages)
        self._bus.post(ack, asks, f"{self.inbox}.{messages}")
        self._note(messages)

    def _request(self, messages: int) -> bytes:
        return b'{"batch":%d,%b' % (messages, self._terms)

    def _note(self, messages: int) -> None:
        self._asked.append(Request(self._time(), messages))
        self._open += messages
        self._resting = 0

    def _reachable(self) -> bool:
        """While the broker is away, a request would wait here and be asked twice: `open` asks."""
        return self.inbox != "" and self._bus.connected

    def _wanted(self) -> int:
        """How many messages there is room for."""
        return 0 if self._room is None else min(self._room.free(), self._most) - self.postponed

    def lost(self, now: float) -> int:
        """Forget the messages of which neither they nor a status came in time; returns how many.
        `now`: the event loop's time."""
        found = 0
        while self._asked and now > self._asked[0].at + self._expires + LOST:
            found += self._asked.popleft().left
        self._open -= found
        return found

    def _receive(self, inbox: str, message: Message) -> None:
        """`inbox`: where the message arrived; `message.subject` is the subject in the stream."""
        status = None if message.data else status_of(message)
        if inbox != self.inbox:  # closed, or of an earlier connection: it is not counted any more
            if status is None:
                hand_back(self._bus, message.reply)
            return
        if status is not None:
            self._told(message.subject, status)
            return
        self._answered(1)
        if self.on_message is None or (self._room is not None and self._room.free() <= 0):
            hand_back(self._bus, message.reply)
        else:
            self.handed += 1
            self.on_message(message)
            if self._resting:
                self.fill()

    def _told(self, subject: str, status: Status) -> None:
        """A request has ended, of which `subject` says for how many messages it was."""
        if status.left < 0:  # a refusal does not say how many are left, as these are all
            asked = subject.rpartition(".")[2]
            status = replace(status, left=int(asked) if asked.isdecimal() else 1)
        self._answered(status.left)
        if status.expired and 2 * self._open >= self._wanted() > 0:
            self._resting += status.left
        self._on_status(status)

    def _answered(self, messages: int) -> None:
        """Strike off so many. The broker does not say which request it answers, so this is the
        oldest that can still be open. Older requests stay, so that `lost` finds them."""
        oldest = self._time() - self._expires - LATE
        while messages > 0 and self._asked:
            found = self._asked[0]
            if found.at < oldest < self._asked[-1].at:
                found = next(each for each in self._asked if each.at >= oldest)
            struck = min(messages, found.left)
            found.left -= struck
            messages -= struck
            self._open -= struck
            if not found.left:
                self._asked.remove(found)


class IdleSlots:
    """The slots of a `room` for which each of these `pulls` has asked, and got nothing. They are
    the room of `others`, which ask when there may be more of them."""

    def __init__(self, room: Room, pulls: Sequence[Pulls]) -> None:
        self.others: list[Pulls] = []
        self._room = room
        self._pulls = pulls
        self._fresh = self._newer = 0
        """Slots that came free lately; those among them that came since the last look."""
        self._looks = False
        room.on_release.append(self._released)

    def close(self) -> None:
        if self._released in self._room.on_release:
            self._room.on_release.remove(self._released)

    def free(self) -> int:
        return self._room.free() - self._fresh

    def offer(self, slots: int) -> None:
        """So many slots came free now: `pulls` have the first choice for a `GRACE`, or at least for
        half of one: there is one timer for all, as this runs at the end of each job."""
        self._fresh += slots
        self._newer += slots
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(GRACE / 2, self._look)

    def _look(self) -> None:
        self._fresh, self._newer = self._newer, 0
        self._looks = self._fresh > 0
        if self._looks:
            asyncio.get_running_loop().call_later(GRACE / 2, self._look)
        self._fill()

    def _fill(self) -> None:
        for each in self.others:
            each.fill()

    def _released(self) -> None:
        free = self._room.free()
        for each in self._pulls:
            if len(each) < free:
                self.offer(1)
                return
        # Others had filled the slot, and the pulls that were sent for it before still wait.
        self._fill()
