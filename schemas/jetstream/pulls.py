"""Pull requests to a durable consumer: asks for messages, counts requests, hands messages back."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NamedTuple, Protocol

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
_QUESTION = "q"
_ASKS = orjson.dumps(
    {"batch": 1, "max_bytes": 1, "no_wait": True, "group": subjects.GROUP, "priority": 9}
)
"""A question is a request that no message is small enough for, behind all other requests. So the
broker answers with a status, when it has served these: 404 if no message waits, 409 if one does,
and 408 if one does and more are asked for (nats-server's processNextMsgRequest, nextWaiting)."""
_WAITS = ("408", "409")
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


class Question(NamedTuple):
    """When it was asked, after how many requests, and who is told the answer."""

    at: float
    requests: int
    tell: Callable[[bool], None]


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
        self.on_wanted: Callable[[], object] | None = None
        """Called when others wait for what the broker has for requests that are postponed."""
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
        self._requests = self._seen = 0
        """Requests that were sent, and those of them that the broker is known to have looked at."""
        self._questions: dict[str, Question] = {}
        self._numbers = count()
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
        questions, self._questions = self._questions, {}
        self._seen = self._requests
        for question in questions.values():
            question.tell(False)
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

    @property
    def settled(self) -> bool:
        """Whether the broker is known to have no message for what was asked for so far."""
        return self._seen == self._requests

    def settle(self, tell: Callable[[bool], None]) -> None:
        """`tell` whether the broker has no message left for what was asked for so far: at once if
        that is known, else when it has answered a question. Messages that it has for these requests
        come before. If the answer is lost, `lost` tells that there is none. If these pulls close
        before it comes, there may be some: the broker has forgotten what was asked for."""
        if self.postponed and self.on_wanted is not None:
            self.on_wanted()
        if self.settled or not self.inbox:
            tell(True)
        else:
            token = f"{_QUESTION}{next(self._numbers)}"
            self._questions[token] = Question(self._time(), self._requests, tell)
            with contextlib.suppress(BusError):
                self._bus.post(self._subject, _ASKS, f"{self.inbox}.{token}")

    def _note(self, messages: int) -> None:
        self._requests += 1
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
        for token, question in tuple(self._questions.items()):
            if now > question.at + LOST:
                self._questions.pop(token, None)
                question.tell(True)
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
        """A request has ended, of which `subject` says for how many messages it was, or a question
        is answered."""
        asked = subject.rpartition(".")[2]
        if asked.startswith(_QUESTION):
            self._answered_question(asked, status)
            return
        if status.left < 0:  # a refusal does not say how many are left, as these are all
            status = replace(status, left=int(asked) if asked.isdecimal() else 1)
        self._answered(status.left)
        if status.expired and 2 * self._open >= self._wanted() > 0:
            self._resting += status.left
        self._on_status(status)

    def _answered_question(self, token: str, status: Status) -> None:
        question = self._questions.pop(token, None)
        if question is None:
            return
        if status.code == "404":
            self._seen = max(self._seen, question.requests)
        question.tell(status.code not in _WAITS)

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
