"""What the broker tells of the fabric: followed once for the whole process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from deploy import doctor, findings
from deploy.configure import Unreachable
from deploy.console.pages.cluster import Memory
from deploy.console.watch import Watches
from deploy.findings import Finding
from deploy.survey import REACH, Survey, Surveyor, connected
from schemas import subjects
from schemas.bus import Bus, BusError
from schemas.settings import Settings

LOOK, IDLE = 1.0, 3.0
"""Seconds between two looks: while somebody is shown them, and while nobody is. Ingresses are asked
with each look, and count as gone after `survey.STALE`."""
_SHOWN = 3.0
"""Seconds for which a picture that was asked for counts as shown."""
FINDINGS, CHANGED = 60.0, 5.0
"""Seconds between two looks for what the doctor would find; and once an engine came, changed or
left."""


class Feed:
    """`away`: why there is no newer picture, "" while all is well. `findings`: what the doctor
    would say, None before it was asked. `memory`: which models the engines had. `watches`: the
    requests that keys may see."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._login = settings.nats
        self._survey: Survey | None = None
        self._asked = float("-inf")
        self._found = float("-inf")
        self._who: set[tuple[str, str, str]] = set()
        self.away = ""
        self.findings: list[Finding] | None = None
        self.memory = Memory()
        self.watches = Watches()

    @property
    def survey(self) -> Survey | None:
        """The last picture; None before the first one. Asking for it has it be newer soon."""
        self._asked = time.monotonic()
        return self._survey

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the broker while the block runs."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                async with connected(
                    self._login.now(), "headrace-console", subjects.INBOX_MONITOR
                ) as bus:
                    await self._look_on(bus)
            except (BusError, Unreachable, TimeoutError) as fault:
                self.away = str(fault) or "it does not answer"
            await asyncio.sleep(LOOK)

    async def _look_on(self, bus: Bus) -> None:
        """Raises BusError, TimeoutError."""
        surveyor = Surveyor(bus, self._login.shown)
        await surveyor.gather()
        self._found = float("-inf")
        while True:
            async with asyncio.timeout(REACH):
                self._survey = await surveyor.look()
            self.memory.learn(self._survey.cards, time.time())
            self.away = ""
            await self._find(bus, self._survey)
            shown = time.monotonic() - self._asked < _SHOWN
            await asyncio.sleep(LOOK if shown else IDLE)

    async def _find(self, bus: Bus, seen: Survey) -> None:
        """Ask the doctor, if it is time."""
        who = {(card.holder, each.name, each.state) for card in seen.cards for each in card.engines}
        due = FINDINGS if who == self._who else CHANGED
        if time.monotonic() - self._found < due:
            return
        # This login may not read dead letters: they have requests in them.
        found = [each async for each in doctor.fabric(bus, seen, self._settings, errors=False)]
        self.findings = [findings.payload(bus.max_payload), *found]
        self._found, self._who = time.monotonic(), who
