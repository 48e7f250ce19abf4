"""Pull requests to a durable consumer: asks for messages, counts requests, hands messages back."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count

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
_inboxes = count()


def hand_back(bus: Bus, ack: str, after: float = 0.0) -> None:
    """Give a message back, to be delivered again `after` so many seconds. If the broker is away, it
    delivers the message again after ack_wait anyway."""
    with contextlib.suppress(BusError):
        bus.post(ack, b'%b {"delay": %d}' % (NAK, after * NS) if after else NAK)


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

    def release(self) -> None:
        self.taken -= 1
        self._tell(self.taken)
        for call in tuple(self.on_release):  # a copy, because a call may change the list
            call()


class Pulls:
    """Requests for one message each to a durable consumer, counted until they are answered.

    A request lives `expires` seconds, so that the requests of a frozen process end before its
    lease; with 0 seconds the broker answers at once. The broker serves the lowest `priority` first.
    `on_message` and `on_status` get the answers. `on_message` may be set later, and must take a
    slot of the `room` at once. A message goes back to the broker if it comes after `close`, answers
    a request of an earlier connection, or finds no room.

    `fill` asks for as many messages as there is room for, less `postponed`, with `most` open
    requests at most. Without a `room`, `fill` does nothing, and the caller uses `ask`.
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
        room: Room | None = None,
        most: int = sys.maxsize,
    ) -> None:
        self.inbox = ""
        """The subject of the answers: a new one for each connection, empty while closed."""
        self.on_message = on_message
        self.postponed = 0
        self.handed = 0
        """Messages that `on_message` got."""
        self._room = room
        self._most = most
        self._bus = bus
        self._subject = streams.pull_subject(stream, consumer)
        until = {"expires": int(expires * NS)} if expires else {"no_wait": True}
        request = {"batch": 1, **until, "group": subjects.GROUP, "priority": priority}
        self._request = orjson.dumps(request)
        self._ack_and_ask = ACK_AND_ASK + self._request
        self._expires = expires
        self._on_status = on_status
        self._asked: deque[float] = deque()
        self._subscription: Subscription | None = None
        self._lock = asyncio.Lock()  # a reconnection may call `open` while `close` still waits

    def __len__(self) -> int:
        """Requests that have no answer yet."""
        return len(self._asked)

    async def open(self) -> None:
        """Get ready to ask. Also for a reconnection, because the broker forgets open requests."""
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
        """Send one request. False while closed or while the broker is away; then `open` again."""
        if not self._reachable():
            return False
        try:
            self._bus.post(self._subject, self._request, self.inbox)
        except BusError:
            return False
        self._asked.append(self._time())
        return True

    def fill(self) -> None:
        """Ask for as many messages as there is room for."""
        while self._has_room() and self.ask():
            pass

    def finish(self, ack: str) -> None:
        """Ack a finished message, and ask for the next in the same message. Raises BusError."""
        if not (self._reachable() and self._has_room()):
            self._bus.post(ack, ACK)
            return
        self._bus.post(ack, self._ack_and_ask, self.inbox)
        self._asked.append(self._time())

    def _reachable(self) -> bool:
        """While the broker is away, a request would wait here and be asked twice: `open` asks."""
        return self.inbox != "" and self._bus.connected

    def _has_room(self) -> bool:
        if self._room is None:
            return False
        return len(self._asked) + self.postponed < min(self._room.free(), self._most)

    def lost(self, now: float) -> int:
        """Forget the requests that got neither a message nor a status in time; returns how many.
        `now`: the event loop's time."""
        found = 0
        while self._asked and now > self._asked[0] + self._expires + LOST:
            self._asked.popleft()
            found += 1
        return found

    def _receive(self, inbox: str, message: Message) -> None:
        """`inbox`: where the message arrived; `message.subject` is the subject in the stream."""
        status = None if message.data else status_of(message)
        if inbox != self.inbox:  # closed, or of an earlier connection: it is not counted any more
            if status is None:
                hand_back(self._bus, message.reply)
            return
        self._answered()
        if status is not None:
            self._on_status(status)
        elif self.on_message is None or (self._room is not None and self._room.free() <= 0):
            hand_back(self._bus, message.reply)
        else:
            self.handed += 1
            self.on_message(message)

    def _answered(self) -> None:
        """Strike off one request. The broker does not say which request it answers, so this is the
        oldest that can still be open. Older requests stay, so that `lost` finds them."""
        if not self._asked:
            return
        oldest = self._time() - self._expires - LATE
        if self._asked[0] < oldest < self._asked[-1]:
            self._asked.remove(next(asked for asked in self._asked if asked >= oldest))
        else:
            self._asked.popleft()
