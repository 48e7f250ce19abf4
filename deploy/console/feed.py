"""What the broker tells of the fabric: followed once for the whole process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from deploy.configure import Unreachable
from deploy.survey import REACH, Survey, Surveyor, connected
from schemas import subjects
from schemas.bus import BusError
from schemas.settings import Nats

EACH = 1.0
"""Seconds between two looks."""

Listener = Callable[[], None]


class Feed:
    """`survey`: the last look, None before the first one; `away`: why there is no newer one, ""
    while all is well. Listeners are called at most once a second."""

    def __init__(self, login: Nats) -> None:
        self._login = login
        self._listeners: set[Listener] = set()
        self.survey: Survey | None = None
        self.away = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the broker while the block runs."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def listen(self, heard: Listener) -> Callable[[], None]:
        """Have `heard` called at each news; what is returned ends that."""
        self._listeners.add(heard)
        return lambda: self._listeners.discard(heard)

    async def _follow(self) -> None:
        while True:
            try:
                async with connected(
                    self._login.now(), "headrace-console", subjects.INBOX_MONITOR
                ) as bus:
                    surveyor = Surveyor(bus, self._login.shown)
                    await surveyor.gather()
                    while True:
                        async with asyncio.timeout(REACH):
                            self._tell(await surveyor.look(), "")
                        await asyncio.sleep(EACH)
            except (BusError, Unreachable, TimeoutError) as fault:
                self._tell(self.survey, str(fault) or "the broker does not answer")
            await asyncio.sleep(EACH)

    def _tell(self, survey: Survey | None, away: str) -> None:
        self.survey, self.away = survey, away
        for heard in list(self._listeners):
            heard()
