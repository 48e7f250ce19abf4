"""Requests for messages to a durable consumer: what a process asks for, and what it hands back."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count

import orjson

from schemas import subjects
from schemas.bus import Bus, BusError, Message, Subscription
from schemas.jetstream import streams
from schemas.jetstream.words import ACK_AND_ASK, NAK, Status, status_of
from schemas.topology import NS

LOST = 2.0
"""Seconds after its end at which a request without an answer was lost with a leader of the broker;
less than a job that is held aside meanwhile may stay so (`ack_wait`)."""
LATE = 1.0
"""Seconds after its end at which a request may still be answered."""
_inboxes = count()


def hand_back(bus: Bus, ack: str, after: float = 0.0) -> None:
    """Let the next who asks have it, `after` so many seconds. Where the broker is away it does so
    after ack_wait."""
    with contextlib.suppress(BusError):
        bus.post(ack, b'%b {"delay": %d}' % (NAK, after * NS) if after else NAK)


class Pulls:
    """Requests for one message each to a durable consumer, counted until they are answered.

    A request lives `expires` seconds, so that what a frozen process asked for is forgotten before
    its lease is; one of 0 seconds is answered at once. The broker serves the lowest `priority`
    first. `on_message` and `on_status` get the answers. A message that comes after `close`, or to a
    request of an earlier connection, goes back to the broker.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        *,
        expires: float,
        priority: int,
        on_message: Callable[[Message], None],
        on_status: Callable[[Status], None],
    ) -> None:
        self.inbox = ""
        """Where answers come to: another one for each connection; empty while closed."""
        self._bus = bus
        self._subject = streams.pull_subject(stream, consumer)
        until = {"expires": int(expires * NS)} if expires else {"no_wait": True}
        request = {"batch": 1, **until, "group": subjects.GROUP, "priority": priority}
        self._request = orjson.dumps(request)
        self._ack_and_ask = ACK_AND_ASK + self._request
        self._expires = expires
        self._on_message = on_message
        self._on_status = on_status
        self._asked: deque[float] = deque()
        self._subscription: Subscription | None = None
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        """Requests that have no answer yet."""
        return len(self._asked)

    async def open(self) -> None:
        """Be ready to ask; also after a reconnection, as the broker has forgotten the requests."""
        async with self._lock:
            await self._unsubscribe()
            inbox = f"{self._bus.inbox}.p.{next(_inboxes)}"
            self._subscription = await self._bus.subscribe(inbox, partial(self._receive, inbox))
            self._time = asyncio.get_running_loop().time
            self.inbox = inbox

    async def close(self) -> None:
        async with self._lock:
            await self._unsubscribe()

    async def _unsubscribe(self) -> None:
        self.inbox = ""
        self._asked.clear()
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.stop()

    def ask(self) -> bool:
        """False while closed, or while the broker is away: `open` comes again with it."""
        if not self.inbox:
            return False
        try:
            self._bus.post(self._subject, self._request, self.inbox)
        except BusError:
            return False
        self._asked.append(self._time())
        return True

    def ack_and_ask(self, ack: str) -> None:
        """Ack a message, and ask for the next in the same one."""
        self._bus.post(ack, self._ack_and_ask, self.inbox)
        self._asked.append(self._time())

    def lost(self, now: float) -> int:
        """Forget the requests that neither brought a message nor expired, and say how many they
        were. `now`: the event loop's time."""
        found = 0
        while self._asked and now > self._asked[0] + self._expires + LOST:
            self._asked.popleft()
            found += 1
        return found

    def _receive(self, inbox: str, message: Message) -> None:
        """`inbox`: where it came to; a message's own subject is that of the stream."""
        status = None if message.data else status_of(message)
        if inbox != self.inbox:
            if status is None:
                hand_back(self._bus, message.reply)
            return
        self._answered()
        if status is None:
            self._on_message(message)
        else:
            self._on_status(status)

    def _answered(self) -> None:
        """The broker does not say which request it answers: the oldest that can still wait there,
        so that those that it lost do not hide behind those that it answers."""
        if not self._asked:
            return
        oldest = self._time() - self._expires - LATE
        if self._asked[0] < oldest < self._asked[-1]:
            self._asked.remove(next(asked for asked in self._asked if asked >= oldest))
        else:
            self._asked.popleft()
