"""Slots that are free because the broker has nothing for those who may have them first.

It is asked, as the time that its answer takes says nothing: a broker that is busy or far away
answers a request late, and others would be served before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from schemas.jetstream.pulls import Pulls, Room

PAUSE = 0.005
"""Seconds after a request before the broker is asked. A message that waits mostly comes within
0.3 ms (measured), and then there is nothing to ask."""
LOOKS = 20
"""Questions in a row to which the broker may say that messages wait, before nobody waits for them
any longer: they go to others, as far as this process can know."""


class Settling:
    """Calls `then` once the broker has no message left for what `pulls` have asked for.
    `is_wanted` is called before each question; if it says no, there is none, and `then` is called.
    """

    def __init__(
        self, pulls: Sequence[Pulls], then: Callable[[], None], is_wanted: Callable[[], bool]
    ) -> None:
        self._pulls = pulls
        self._then = then
        self._is_wanted = is_wanted
        self._round = self._looks = self._left = 0
        """Which answers count, by the number of `begin`; questions since; answers that are due."""
        self._empty = True
        self._timer: asyncio.TimerHandle | None = None
        self.runs = False

    def begin(self) -> None:
        """Also anew, which forgets the answers that are due."""
        self.stop()
        self.runs = True
        self._looks = 0
        self._pause()

    def stop(self) -> None:
        self.runs = False
        self._round += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pause(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PAUSE, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._is_wanted() or not self._pulls:
            self._end()
            return
        self._looks += 1
        self._empty, self._left = True, len(self._pulls)
        hear = partial(self._hear, self._round)
        for each in self._pulls:
            each.settle(hear)

    def _hear(self, of_round: int, empty: bool) -> None:
        if of_round != self._round:
            return
        self._left -= 1
        self._empty = self._empty and empty
        if self._left:
            return
        if self._empty or self._looks >= LOOKS:
            self._end()
        else:
            self._pause()

    def _end(self) -> None:
        self.stop()
        self._then()


class IdleSlots:
    """The slots of a `room` for which each of these `pulls` has asked, and got nothing. They are
    the room of `others`, which ask when there may be more of them."""

    def __init__(self, room: Room, pulls: Sequence[Pulls]) -> None:
        self.others: list[Pulls] = []
        self._room = room
        self._pulls = pulls
        self._fresh = self._newer = 0
        """Slots that came free lately; those among them that came since the last question."""
        self._settling = Settling(pulls, self._settled, self._is_idle)
        room.on_release.append(self._released)

    def open(self) -> None:
        """At first and after each reconnection, when the `pulls` have asked anew."""
        self._settling.stop()
        self._fresh = 0
        self.offer(self._room.free())

    def close(self) -> None:
        self._settling.stop()
        if self._released in self._room.on_release:
            self._room.on_release.remove(self._released)

    def free(self) -> int:
        return self._room.free() - self._fresh

    def offer(self, slots: int) -> None:
        """So many slots came free now: `pulls` have the first choice. There is one timer and one
        question for all that come free meanwhile, as this runs at the end of each job."""
        self._fresh += slots
        self._newer += slots
        if not self._settling.runs:
            self._settling.begin()

    def _is_idle(self) -> bool:
        self._newer = 0
        return self._room.free() > 0

    def _settled(self) -> None:
        self._fresh = self._newer
        if self._fresh:
            self._settling.begin()
        self._fill()

    def _fill(self) -> None:
        for each in self.others:
            each.fill()

    def _released(self) -> None:
        free = self._room.free()
        for each in self._pulls:
            if len(each) < free or not each.settled:
                self.offer(1)
                return
        # Others had filled the slot, and the pulls that were sent for it before still wait.
        self._fill()
