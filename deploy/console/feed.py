"""What the broker tells of the fabric: followed once for the whole process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog

from deploy import doctor, findings
from deploy.configure import Unreachable
from deploy.console.pages.cluster import Memory
from deploy.console.watch import Watches
from deploy.findings import Finding
from deploy.survey import GATHER, REACH, Survey, Surveyor, connected
from schemas import subjects
from schemas.bus import Bus, BusError
from schemas.settings import Settings
from schemas.watched import watched

log = structlog.get_logger("console")

LOOK, IDLE = 1.0, 3.0
"""Seconds between two looks: while somebody is shown them, and while nobody is. Ingresses are asked
with each look, and count as gone after `survey.STALE`."""
PATIENCE = 10.0
"""Seconds for all answers of one look."""
ADVICE = 5.0
"""Seconds for what the doctor finds: the next picture waits for that."""
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
        following = asyncio.create_task(watched("feed", self._follow))
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                async with connected(
                    self._login, "headrace-console", subjects.INBOX_MONITOR
                ) as bus:
                    await self._look_on(bus)
            except (BusError, Unreachable) as fault:
                self.away = str(fault)
            except Exception as fault:  # `watched` tells of it; the picture is old meanwhile
                self.away = f"what it tells is not understood ({fault})"
                raise
            await asyncio.sleep(LOOK)

    async def _look_on(self, bus: Bus) -> None:
        """The connection is kept while the broker is away: it comes back by itself, and to close it
        would take half a minute with TLS, if the broker only froze. Raises BusError."""
        surveyor = Surveyor(bus, self._login.shown)
        await surveyor.gather()
        self._found = float("-inf")
        while not bus.closed.is_set():
            try:
                async with asyncio.timeout(PATIENCE):
                    self._survey = await self._look(surveyor)
                    self.memory.learn(self._survey.cards, time.time())
                    self.away = ""
                await self._find(bus, self._survey)
            except (BusError, TimeoutError) as fault:
                self.away = str(fault) or "it does not answer"
            shown = time.monotonic() - self._asked < _SHOWN
            await asyncio.sleep(LOOK if shown else IDLE)

    async def _look(self, surveyor: Surveyor) -> Survey:
        """Raises BusError, TimeoutError."""
        async with asyncio.timeout(REACH):
            found = await surveyor.look()
        if not self.away:
            return found
        # The cards that came before the broker was away are old: who is here says so again.
        await asyncio.sleep(GATHER)
        return await surveyor.look()

    async def _find(self, bus: Bus, seen: Survey) -> None:
        """Ask the doctor, if it is time."""
        who = {(card.holder, each.name, each.state) for card in seen.cards for each in card.engines}
        due = FINDINGS if who == self._who else CHANGED
        if time.monotonic() - self._found < due:
            return
        try:
            async with asyncio.timeout(ADVICE):
                # This login may not read dead letters: they have requests in them.
                asked = doctor.fabric(bus, seen, self._settings, errors=False)
                found = [each async for each in asked]
        except TimeoutError:  # the picture has come all the same: what was found before stays
            log.warning("console.findings_late", seconds=ADVICE)
        else:
            self.findings, self._who = [findings.payload(bus.max_payload), *found], who
        self._found = time.monotonic()
