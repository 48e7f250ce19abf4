"""Takes jobs that are for this node alone, in turn with those that any node may have.

One request for such a job is always open at the broker for each model, also while no slot is free:
a job that comes then is handed back at once, and is known to wait. Of two slots that come free the
one is then a pinned job's, and the other an interactive one's: whose job has ended, lets the other
go first. While none waits, nothing here is asked when a job ends.

A job may also come here for the cache of one engine, which its message names. It is that engine's
if a slot is free there, whichever of the engines here got the message. Without any, it goes back
for so long that its ingress has given it to others meanwhile; or it is kept here for the first slot
that comes free, if its message says that it is worth that, and for how long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from schemas import subjects
from schemas.bus import Bus, BusError, Message
from schemas.jetstream.idle import Settling
from schemas.jetstream.pulls import Pulls, Room, hand_back
from schemas.jetstream.words import ACK, IN_PROGRESS
from schemas.jobs import MOST_WANTED, WANTED_ENGINE, WANTED_FOR
from workers.consumer import Puller
from workers.slots import Source

log = structlog.get_logger("pinned")

AWAY = 0.1
"""Seconds for which a job is handed back that came for a cache, and finds no slot: twice what its
ingress waits."""
_FIRST = 1
"""The delivery of a message that may go back for an engine of another process."""
MOST_KEPT = 64
"""Jobs that are kept for a slot of one engine at most; further ones go back."""

Neighbours = dict[str, "PinnedPullers"]
"""The engines of one process, by `engine_of`."""


class PinnedPullers:
    """Pulls from the `lane` of a node, for the models for which there are `interactive` pullers,
    with their priorities. `name`: of this engine among its `neighbours`. For the others see
    `Puller`."""

    def __init__(
        self,
        bus: Bus,
        room: Room,
        interactive: Sequence[Puller],
        lane: str,
        on_job: Callable[[Source, Message], None],
        expires: float,
        name: str,
        neighbours: Neighbours,
    ) -> None:
        self._name = name
        self._neighbours = neighbours
        self.room = room
        self._bus = bus
        self._on_job = on_job
        self._interactive = interactive
        self._waiting: deque[_Model] = deque()
        """Models of which a pinned job is known to wait. While there are some, interactive pulls
        let them have a slot first."""
        self._kept: deque[_Kept] = deque()
        """Jobs for whose cache a slot is waited for. They have the first that comes free."""
        self._models = [_Model(self, bus, each) for each in interactive]
        for each in self._models:
            each.puller = Puller(
                bus,
                each.interactive.model,
                lane,
                room=each,
                on_job=partial(self._take, each),
                expires=expires,
                priority=each.interactive.priority,
            )

    async def open(self) -> None:
        """At first and after each reconnection. Raises BusError."""
        self._neighbours[self._name] = self
        self._forget()
        for each in self._models:
            await each.puller.open()

    async def close(self) -> None:
        if self._neighbours.get(self._name) is self:
            del self._neighbours[self._name]
        self._forget()
        for each in self._models:
            await each.puller.close()

    def rank(self, model: str, priority: int) -> None:
        """As `Puller` has it."""
        for each in self._models:
            each.puller.rank(model, priority)

    def heal(self, now: float) -> None:
        self._released()
        for each in self._models:
            each.puller.heal(now)
        for kept in self._kept:  # or the broker would deliver it again
            with contextlib.suppress(BusError):
                self._bus.post(kept.message.reply, IN_PROGRESS)
        self.give()

    def give(self) -> None:
        """Keep a free slot for a pinned job that waits, and ask for it."""
        if self.may_give():
            model = self._waiting.popleft()
            self._come_first()
            model.expect()

    def _come_first(self) -> None:
        """While jobs wait, interactive pulls let them go first."""
        first = self.give if self._waiting else None
        for each in self._interactive:
            each.pulls.first = first

    def ended(self, model: _Model) -> None:
        """A pinned job has ended: its slot is an interactive one's first."""
        pulls = model.interactive.pulls
        idle = len(pulls) >= self.room.free()  # they have asked before, and got nothing
        pulls.first = None
        pulls.fill()
        self._come_first()
        if not self._waiting:
            return
        if idle:
            self.give()
        else:
            model.first_choice.begin()

    def may_give(self) -> bool:
        """Whether a pinned job waits and a slot is free for it."""
        return bool(self._waiting) and self.room.free() > 0

    def missed(self) -> None:
        """A slot was kept for a job that did not come: its client has left."""
        self.room.release()
        for each in self._interactive:
            each.pulls.fill()

    def _take(self, model: _Model, pulls: Pulls, message: Message) -> None:
        wanted = (message.headers or {}).get(WANTED_ENGINE, "")
        if wanted and self._is_passed_on(model, message, wanted):
            pulls.fill()  # for the job that a slot may be kept for, which is still to come
            return
        model.settle()
        if self.room.free() > 0:
            self._on_job(model, message)
        elif wanted == self._name and self._keep(model, message):
            pass
        elif wanted:
            hand_back(self._bus, message.reply, AWAY)
        else:
            hand_back(self._bus, message.reply)
            model.waits = True
            self._waiting.append(model)
            self._come_first()
        pulls.fill()

    def _is_passed_on(self, model: _Model, message: Message, wanted: str) -> bool:
        """Whether the job is another engine's, by what its message says."""
        if wanted == self._name:
            return False
        if (neighbour := self._neighbours.get(wanted)) is not None:
            return neighbour.takes(model.interactive.model, message)
        if subjects.turn_of(message.reply)[1] > _FIRST:
            return False
        hand_back(self._bus, message.reply)  # another process asks for it, too
        return True

    def takes(self, model: str, message: Message) -> bool:
        """Take a job that came to another engine here, if there is room or it may wait."""
        for each in self._models:
            if each.interactive.model == model:
                if self.room.free() > 0:
                    self._on_job(each, message)
                    return True
                return self._keep(each, message)
        return False

    def _keep(self, model: _Model, message: Message) -> bool:
        """Keep a job until a slot is free, for as long as its message allows."""
        allowed = (message.headers or {}).get(WANTED_FOR, "")
        seconds = int(allowed) / 1000 if allowed.isdecimal() and len(allowed) < 9 else 0.0
        if not 0 < seconds <= MOST_WANTED or len(self._kept) >= MOST_KEPT or not self.room.open:
            return False
        kept = _Kept(model, message)
        self._kept.append(kept)
        self._listen()
        kept.timer = asyncio.get_running_loop().call_later(seconds, self._give_up, kept)
        log.debug("pinned.kept", engine=self._name, seconds=seconds)
        return True

    def _released(self) -> None:
        while self._kept and self.room.free() > 0:
            kept = self._kept.popleft()
            kept.timer.cancel()
            self._on_job(kept.model, kept.message)
        self._listen()

    def _listen(self) -> None:
        """Hear of slots that come free as long as a job is kept, and before others do: whoever
        listens is called at the end of each job."""
        listens = self._released in self.room.on_release
        if self._kept and not listens:
            self.room.on_release.insert(0, self._released)
        elif listens and not self._kept:
            self.room.on_release.remove(self._released)

    def _give_up(self, kept: _Kept) -> None:
        """Its ingress has given it to others by now."""
        self._kept.remove(kept)
        self._listen()
        hand_back(self._bus, kept.message.reply, AWAY)

    def _forget(self) -> None:
        """What is known of jobs that wait was said by another connection. Those that are kept go
        back."""
        for kept in self._kept:
            kept.timer.cancel()
            hand_back(self._bus, kept.message.reply)
        self._kept.clear()
        self._listen()
        self._waiting.clear()
        self._come_first()
        for each in self._models:
            each.first_choice.stop()
            each.settle()
            each.waits = False


class _Kept:
    """A job that waits here. `timer`: when it has waited enough."""

    timer: asyncio.TimerHandle

    def __init__(self, model: _Model, message: Message) -> None:
        self.model = model
        self.message = message


class _Model:
    """The pinned jobs of one model: what room there is for requests, and where the jobs come from.
    `waits`: one of them is known to wait, and none is asked for."""

    puller: Puller

    def __init__(self, pullers: PinnedPullers, bus: Bus, interactive: Puller) -> None:
        self.interactive = interactive
        self.waits = False
        self._pullers = pullers
        self._bus = bus
        pulls = [interactive.pulls]
        self.first_choice = Settling(pulls, pullers.give, pullers.may_give)
        """After a pinned job, an interactive one that waits goes first."""
        self._expecting: Settling | None = None
        """While a slot is kept for a job."""

    def free(self) -> int:
        return int(self._pullers.room.open and not self.waits)

    def finish(self, ack: str) -> None:
        self._bus.post(ack, ACK)

    def fill(self) -> None:
        self._pullers.ended(self)

    def expect(self) -> None:
        """Keep a slot for the job that waits, and ask for it."""
        self.waits = False
        self._pullers.room.take()
        self._expecting = Settling([self.puller.pulls], self._missed, lambda: True)
        self._expecting.begin()
        self.puller.pulls.fill()

    def settle(self) -> None:
        """No slot is kept any more."""
        if self._expecting is not None:
            self._expecting.stop()
            self._expecting = None
            self._pullers.room.untake()

    def _missed(self) -> None:
        self._expecting = None
        self._pullers.missed()
