"""Admits requests within the limits of their key and account, exact over all ingresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from ingress.http.auth import Principal
from ingress.limits import budgets, refusals
from ingress.limits.clock import FRESH, STALE, SharedClock
from ingress.limits.keeper import Keeper
from ingress.limits.permit import Permit
from ingress.limits.refusals import ACCOUNT, KEY
from ingress.limits.share import Share
from ingress.limits.store import Alone, Store
from ingress.limits.terms import Cost, Moment, Refusal, Terms, queue
from schemas import subjects
from schemas.bus import BusError
from schemas.errors import LimitsUnavailable
from schemas.jetstream.alarm import Alarm
from schemas.keys import Limits
from schemas.limits import (
    CONCURRENT,
    MICRO,
    MONTHLY_CREDITS,
    MONTHLY_TOKENS,
    QUEUED,
    REQUESTS,
    TOKENS,
    Record,
    unpack,
)
from schemas.settings import Ingress

log = structlog.get_logger("limits")

TRIES = 50
"""How often a permit is fetched that others were quicker to take."""
MANY = 1000
"""Keepers from which on those that nobody needs are forgotten."""
AGAIN = 0.1
"""Seconds until a store that is away is tried again."""
QUEUE_PATIENCE, PLACE_PATIENCE, LOOK_AGAIN = 0.1, 0.05, 0.01
"""Seconds for which a request waits for a place in the queue, for one that another ingress has, and
between two looks."""
LAST_WORDS = 2.0
"""Seconds that a process which ends has to write what was used."""


class Limiter:
    def __init__(
        self,
        store: Store | None = None,
        owner: str = "",
        window: float = Ingress().limit_window,
        patience: float = 0.0,
        alarm: Alarm | None = None,
    ) -> None:
        """`store`: where records are; None: in this process alone. `owner`: the name of this
        ingress. `window`: seconds of the meters. `patience`: seconds for which a request waits for
        a store that is away. `alarm`: hears of budgets that run out."""
        self._store = Alone() if store is None else store
        self._alone = store is None
        self.clock = SharedClock(self._store)
        self._owner = owner
        self._window = round(window * 1000)
        self._patience = patience
        self._alarm = alarm
        self._keepers: dict[tuple[str, str], tuple[Limits, Keeper]] = {}
        self._reading: asyncio.Task[BusError | None] | None = None

    async def admit(
        self, keepers: Sequence[Keeper], model: str, prompt: int, answer: int
    ) -> Permit:
        """Take a permit for one request. `prompt`, `answer`: estimated tokens. Raises RateLimited,
        QuotaExceeded, LimitsUnavailable."""
        await self._ready()
        most = [keeper.share.terms.meters.get(TOKENS, prompt + answer) for keeper in keepers]
        cost = Cost(min([prompt + answer, *most]), queue(model))
        now = self.clock.now()
        if any(keeper.share.lacks(cost, now) for keeper in keepers):
            now = await self._fetched(keepers, cost)
        takings = [(keeper, keeper.share.take(cost, now)) for keeper in keepers]
        return Permit(takings, cost, min(prompt, cost.tokens), self.clock, self._alarm)

    def keepers(self, who: Principal) -> list[Keeper]:
        """Those of the key and of the account, if there are limits to keep."""
        found = []
        for kind, name, limits in (
            (KEY, who.key, who.policy.limits),
            (ACCOUNT, who.account, who.account_limits),
        ):
            if limits.model_fields_set:
                keeper = self._keeper(kind, name, who.account, limits)
                if keeper.share.terms:
                    found.append(keeper)
        return found

    async def use(self, kind: str, name: str) -> dict[str, float]:
        """What is used of each limit of a key or account by now, what ingresses hold included.
        Raises BusError, CodecError, LimitsUnavailable."""
        await self._ready()
        _, data = await self._store.read(subjects.limits(kind, name))
        now, record = self.clock.now(), unpack(data) if data else Record()
        record = record.aged(now.earliest - self._window, now.earliest)
        tokens, micro = (record.tokens, record.credits) if record.month >= now.month else (0, 0)
        places = {CONCURRENT: 0, QUEUED: 0}
        for row in record.rows.values():
            for gauge, count in row.gauges.items():
                places[gauge.partition(":")[0]] += count
        found = {meter: record.total(meter) for meter in (REQUESTS, TOKENS)}
        return {**found, **places, MONTHLY_TOKENS: tokens, MONTHLY_CREDITS: micro / MICRO}

    async def close(self) -> None:
        """Give back what is held, and write what was used."""
        flushes = [keeper.flush() for _, keeper in self._keepers.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await asyncio.gather(*flushes)
        if self._alarm is not None:
            await self._alarm.close()

    def _keeper(self, kind: str, name: str, account: str, limits: Limits) -> Keeper:
        known, keeper = self._keepers.get((kind, name), (None, None))
        if keeper is None:
            if len(self._keepers) >= MANY and self.clock.is_known:
                self._forget()
            self._warn()
            share = Share(self._owner, Terms(limits), self._window)
            keeper = Keeper(kind, name, account, share, self._store, self.clock)
            self._keepers[kind, name] = limits, keeper
        elif known is not limits:  # they were read anew
            if known != limits:
                keeper.share.change(Terms(limits))
            self._keepers[kind, name] = limits, keeper
        return keeper

    def _warn(self) -> None:
        if self._alone:
            self._alone = False
            why = "no login in [vault]: limits hold for this ingress alone, not for all together"
            log.warning("limits.alone", why=why)

    def _forget(self) -> None:
        now = self.clock.now()
        for place, (_, keeper) in list(self._keepers.items()):
            if keeper.share.is_idle(now):
                keeper.close()
                del self._keepers[place]

    async def _fetched(self, keepers: Sequence[Keeper], cost: Cost) -> Moment:
        """The moment at which there is a permit in each share."""
        began = time.monotonic()
        for _ in range(TRIES):
            now = self.clock.now()
            short = [keeper for keeper in keepers if keeper.share.lacks(cost, now)]
            if not short:
                return now
            # All of them first: nothing is fetched for a request that is refused.
            for look in (self._reached, self._fetch):
                for keeper in short:
                    if (refusal := await look(keeper, cost, began)) is not None:
                        await self._refuse(refusal, keeper, began)
        raise LimitsUnavailable("Too many requests at once for this key's limits.", retry_after=1)

    async def _reached(self, keeper: Keeper, cost: Cost, _: float) -> Refusal | None:
        return keeper.share.reached.by(cost, keeper.share.terms, self.clock.now())

    async def _fetch(self, keeper: Keeper, cost: Cost, began: float) -> Refusal | None:
        while True:
            try:
                return await keeper.fetch(cost)
            except BusError as fault:
                if time.monotonic() > began + self._patience:
                    raise _away(fault) from None
            await asyncio.sleep(AGAIN)

    async def _refuse(self, refusal: Refusal, keeper: Keeper, began: float) -> None:
        """Raises RateLimited, QuotaExceeded; but a place may come free within a moment."""
        if time.monotonic() < began + _patience(refusal.limit, keeper):
            await asyncio.sleep(LOOK_AGAIN)
            return
        if self._alarm is not None and refusal.limit in keeper.share.terms.budgets:
            budgets.look(self._alarm, keeper, self.clock.now())
        raise refusals.error(refusal, keeper)

    async def _ready(self) -> None:
        """Know the time, at the cost of an answer of the store if it is not known at all."""
        if self.clock.age < FRESH:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_clock())
        until = time.monotonic() + self._patience
        while self.clock.age > STALE:
            reading = self._reading or asyncio.create_task(self._read_clock())
            self._reading = reading
            fault = await asyncio.shield(reading)
            if fault is not None:
                if time.monotonic() > until:
                    raise _away(fault)
                await asyncio.sleep(AGAIN)

    async def _read_clock(self) -> BusError | None:
        try:
            await self.clock.read()
        except BusError as fault:
            return fault
        finally:
            self._reading = None
        return None


def _patience(limit: str, keeper: Keeper) -> float:
    """Requests that find a free slot leave the queue at once. Where an answer ended at another
    ingress, its client may be here sooner than the word of it."""
    if limit.startswith(QUEUED):
        return QUEUE_PATIENCE
    return PLACE_PATIENCE if limit == CONCURRENT and keeper.share.is_elsewhere(limit) else 0.0


def _away(fault: BusError) -> LimitsUnavailable:
    log.warning("limits.away", error=str(fault))
    why = "What is used of this key's limits cannot be read now. Try again."
    return LimitsUnavailable(why, retry_after=1)
