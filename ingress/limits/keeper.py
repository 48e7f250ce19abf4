"""Reads and writes the record of one key or account, for the share that this ingress has of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import SystemRandom

import structlog

from ingress.limits.clock import SharedClock
from ingress.limits.share import Share
from ingress.limits.store import Overtaken, Store
from ingress.limits.terms import Cost, Refusal
from schemas import limits, subjects
from schemas.bus import BusError
from schemas.jobs import CodecError

log = structlog.get_logger("limits")

_random = SystemRandom().random
TRIES = 40
"""How often a record is written anew after others were quicker."""
PAUSE = 0.001
"""Seconds before it is tried again the second time; twice as many each time."""
LONGEST_PAUSE = 0.05
AWAY, LONGEST_AWAY = 0.1, 5.0
"""Seconds until a store that was away is told again what nobody waits for, and at most."""


class Keeper:
    """`kind`: "key" or "account", of this `name`; `account`: whose it is. One exchange with the
    store goes on at a time, a flight; whoever needs a permit meanwhile waits for its end."""

    def __init__(
        self,
        kind: str,
        name: str,
        account: str,
        share: Share,
        store: Store,
        clock: SharedClock,
    ) -> None:
        self.kind = kind
        self.name = name
        self.account = account
        self.share = share
        self._subject = subjects.limits(kind, name)
        self._store = store
        self._clock = clock
        self._place = 0
        self._known = False
        """The share has seen the newest record, as far as can be known here."""
        self._shared = False
        """Others write the record, too: it is read before it is written."""
        self._wanted: list[Cost] | None = None
        """What the flight that begins with the next turn of the loop is to bring."""
        self._flight: asyncio.Task[BusError | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        """When the timer does, in the loop's seconds. uvloop's does not tell if that is at once."""
        self._failed = 0
        """How often the store was away, one time after the other."""

    async def fetch(self, cost: Cost) -> Refusal | None:
        """Try to get a permit into the share, from where others may be quicker to take it. Returns
        the limit that has no room. Raises BusError."""
        if self._flight is None:
            self._start([cost])
        elif self._wanted is not None:
            self._wanted.append(cost)
        assert self._flight is not None
        if (fault := await asyncio.shield(self._flight)) is not None:
            raise fault
        now = self._clock.now()
        return self.share.refusal(cost, now) if self.share.lacks(cost, now) else None

    def touch(self) -> None:
        """See to it that what is due is written in time. To be called when something was given
        back."""
        if self._flight is not None:
            return
        due = self.share.due(self._clock.now())
        if due is None:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(due / 1000, self._pause())
        if self._timer is not None:
            if self._rings <= when:
                return
            self._timer.cancel()
        self._rings = when
        self._timer = loop.call_at(when, self._ring)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def flush(self) -> None:
        """Write what is used and give back what is not, as this process ends."""
        self.close()
        if not self._clock.is_known:
            return  # then nothing was ever admitted
        if self._flight is not None:
            await self._flight
        if self.share.due(self._clock.now()) is not None:
            await self._start([])
        self.close()

    def _pause(self) -> float:
        """Seconds to leave a store alone that was away."""
        return min(LONGEST_AWAY, AWAY * 2 ** min(self._failed, 16)) if self._failed else 0.0

    def _ring(self) -> None:
        self._timer = None
        if self.share.due(self._clock.now()) == 0 and self._flight is None:
            self._start([])
        else:
            self.touch()

    def _start(self, wanted: list[Cost]) -> asyncio.Task[BusError | None]:
        self._wanted = wanted
        self._flight = asyncio.create_task(self._fly())
        return self._flight

    async def _fly(self) -> BusError | None:
        wanted, self._wanted = self._wanted or [], None
        try:
            await self._exchange(wanted)
        except BusError as fault:
            if not self._failed:
                log.warning("limits.store_away", record=self._subject, error=str(fault))
            self._failed += 1
            return fault
        else:
            self._failed = 0
        finally:
            self._flight = None
            self.touch()
        return None

    async def _exchange(self, wanted: Sequence[Cost]) -> None:
        """Raises BusError."""
        pause = 0.0
        for _ in range(TRIES):
            await self._look(wanted)
            if await self._written(wanted):
                return
            # The pauses differ, or the same ones would meet again.
            await asyncio.sleep(pause * _random())
            pause = min(LONGEST_PAUSE, 2 * pause or PAUSE)
        raise BusError(f"{self._subject} is written by too many at once")

    async def _look(self, wanted: Sequence[Cost]) -> None:
        """Read the record, unless what is known of it has room. Raises BusError."""
        now = self._clock.now()
        if self._known and not self._shared and not self.share.is_unsure(wanted, now):
            return
        place, data = await self._store.read(self._subject)
        self._shared, self._place = place != self._place, place
        try:
            self.share.saw(limits.unpack(data) if data else limits.Record(), self._clock.now())
        except CodecError as fault:
            raise BusError(f"{self._subject}: {fault}") from None
        self._known = True

    async def _written(self, wanted: Sequence[Cost]) -> bool:
        """False if another ingress was quicker. Raises BusError."""
        share = self.share
        if (record := share.propose(wanted, self._clock.now())) is None:
            return True
        self._known = False
        try:
            self._place = await self._store.write(self._subject, self._place, record.pack())
        except Overtaken:
            share.refused()
            self._shared = True
            return False
        except BusError:
            share.unknown()
            raise
        share.written(record, self._clock.now())
        self._known = True
        return True
