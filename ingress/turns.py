"""Places that several owners share: each may have some at a time, and the many of one do not wait
in front of the one of another."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class TooManyWait(Exception):
    """An owner has as many in wait as one may have."""


class Turns:
    """`places`: in all; `share`: of one owner; `waiting`: most that may wait of one owner. A place
    that gets free goes to the owner with the fewest, of several to the one that got none longest.
    """

    def __init__(self, places: int, share: int, waiting: int) -> None:
        self._free = places
        self._share = share
        self._most = waiting
        self._taken = Counter[str]()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """A place, for the block. Raises TooManyWait."""
        if self._free and self._taken[owner] < self._share:
            self._take(owner)
        else:
            await self._wait(owner)
        try:
            yield
        finally:
            self._give_back(owner)

    async def run_aside(self, owner: str, work: Callable[[], T]) -> T:
        """What `work`, which runs in a thread, gives or raises. Raises TooManyWait."""
        async with self.turn(owner):
            return await asyncio.to_thread(work)

    async def _wait(self, owner: str) -> None:
        queue = self._waiting.setdefault(owner, deque())
        if len(queue) >= self._most:
            raise TooManyWait
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(owner, turn)
            else:  # it was given the place in this very moment
                self._give_back(owner)
            raise

    def _leave(self, owner: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(owner, deque())
        if turn in queue:  # not if `_give_back` passed over it
            queue.remove(turn)
        if not queue:
            self._waiting.pop(owner, None)

    def _take(self, owner: str) -> None:
        self._free -= 1
        self._taken[owner] += 1

    def _give_back(self, owner: str) -> None:
        self._free += 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
        while self._free and (chosen := self._next()) is not None:
            queue = self._waiting.pop(chosen)
            turn = queue.popleft()
            if queue:
                self._waiting[chosen] = queue  # behind the others
            if not turn.cancelled():
                self._take(chosen)
                turn.set_result(None)

    def _next(self) -> str | None:
        able = (owner for owner in self._waiting if self._taken[owner] < self._share)
        return min(able, key=self._taken.__getitem__, default=None)
