"""Prepaid credits: reserve before a provider is called, settle after.

The broker keeps the books. An account's counter never lies, and each entry is taken once
(`entries.Name`); these two facts carry everything:

- A reservation subtracts the worst case. Below zero it is given back at once.
- Exactly one entry closes it: a charge that gives back what was not used, or a release of all. Both
  have one message id, so whoever comes second changes nothing.
- At most one holder of a job charges. A later holder reserves, waits until it has read the books up
  to its own entry, and releases what earlier holders have open before it calls a provider; a holder
  that finds a later one's open reservation, or somebody's charge, yields. Of any two, the stream's
  order says which sees the other.

Whoever takes a job off a dead holder is thus safe against that holder waking up, and so is the
sweep. No clock is trusted but for this: a reservation is not charged after `OLDEST` seconds, as the
broker forgets message ids after twice that time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace

import structlog

from fallback.credits.entries import Balance, Entry, Held, Kind, Name, Reservation, Usage
from fallback.credits.journal import SKEW, Books, Insufficient, Last, LedgerError, Superseded
from fallback.credits.state import Claim
from schemas.bus import Bus

__all__ = [
    "Balance", "Entry", "Held", "Insufficient", "Ledger", "LedgerError", "Reservation",
    "Superseded", "Usage",
]  # fmt: skip

log = structlog.get_logger("ledger")

TAKES = 3
"""Tries of one holder to reserve where others overdrew the account for a moment."""
OLDEST = 3600.0
"""Seconds after which a reservation is no longer charged."""
RESERVE_PATIENCE = 3.0
CLOSE_PATIENCE = 10.0
"""Seconds for the broker to take an entry, reconnections included."""
RECOVERY = 0.05
"""Seconds for somebody else's overdraft to be given back."""


class Ledger:
    """One process's hand on the books.

    `alive` says of a holder whether it may still be at work; true where in doubt. `clock`: Unix
    seconds. Every method may raise LedgerError: the broker is away, or refused.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        replicas: int = 1,
        alive: Callable[[str], bool] = lambda holder: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._books = Books(bus, replicas, clock)
        self._alive = alive
        self._clock = clock
        self._own: dict[Name, str] = {}
        self._owed: dict[Name, tuple[Held, Usage | None, str]] = {}
        self._holders: set[str] = set()

    async def open(self) -> None:
        """Make the stream if it is missing, read what is recent, and follow. Raises BusError."""
        await self._books.open()

    async def close(self) -> None:
        """Try once more what the broker did not take, then stop following."""
        with contextlib.suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._repay()
        await self._books.close()

    async def reserve(self, what: Reservation) -> Held:
        """Take the worst case out of the account: for a job that may go to several providers, the
        dearest. A turn may have one that stands at a time. Raises Insufficient, Superseded."""
        if what.amount < 0:
            raise ValueError(f"a reservation of {what.amount}")
        self._holders.add(what.holder)
        if not what.first and await self._paid_before(what):
            return _already(what)
        used = self._books.view.takes(what.job, what.turn)
        for take in range(used, used + TAKES):
            name = Name(what.job, what.turn, take)
            self._own[name] = what.holder
            try:
                held = await self._take(what, name)
            except BaseException:
                self._own.pop(name, None)  # whatever was written is swept
                raise
            if held is not None:
                return held
            self._own.pop(name, None)
        raise Insufficient(what.amount, (await self._books.last(what.account)).balance)

    async def settle(self, held: Held, cost: int, usage: Usage) -> bool:
        """Charge `cost` and give back the rest. Returns whether this charged: not if another holder
        has, or may. A cost beyond the reservation is charged up to it, never more.

        Where the broker is away longer than it is waited for, LedgerError is raised, and the charge
        is tried again by each `sweep`, for as long as this process lives.
        """
        if held.paid:
            return False
        if cost > held.what.amount:
            log.warning("ledger.cost_above_reservation", job=held.what.job, cost=cost,
                        reserved=held.what.amount)  # fmt: skip
        cost = max(0, min(cost, held.what.amount))
        return await self._close(held, replace(usage, cost=cost), "")

    async def release(self, held: Held, why: str) -> None:
        """Give all of it back."""
        if not held.paid:
            await self._close(held, None, why)

    async def sweep(self) -> int:
        """Release what holders that died have left open, and repeat what the broker did not take.
        Returns how many were released."""
        await self._repay()
        await self._books.fresh()
        count = 0
        for claim in self._books.view.open():
            if self._abandoned(claim) and await self._let_go(claim, "swept"):
                log.info("ledger.swept", job=claim.name.job, holder=claim.holder,
                         amount=claim.amount)  # fmt: skip
                count += 1
        return count

    async def balance(self, account: str) -> Balance:
        found = await self._books.last(account)
        await self._books.reached(found.seq)
        return Balance(max(0, found.balance), self._books.view.reserved(account))

    async def balances(self) -> dict[str, Balance]:
        """Of everybody, with the reservations of long ago: it waits until those are read."""
        await self._books.whole()
        return {account: await self.balance(account) for account in await self._books.accounts()}

    async def grant(self, account: str, amount: int, note: str = "", id: str = "") -> int:
        """Add credits, or take some back (`amount` < 0), never below zero; returns the balance.
        A repeated `id` counts once. Raises Insufficient."""
        return await self._books.grant(account, amount, note, id)

    async def history(
        self, account: str, *, since: float = 0.0, limit: int = 0
    ) -> AsyncIterator[Entry]:
        """Entries of an account, newest last; with a `limit`, the newest so many."""
        async for entry in self._books.history(account, since, limit):
            yield entry

    async def usage(self, *, since: float = 0.0, account: str = "") -> AsyncIterator[Usage]:
        """What was charged `since` (Unix seconds), for `account` or for all, oldest first."""
        async for entry in self._books.history(account, since, 0):
            if entry.kind is Kind.CHARGE and entry.usage is not None:
                yield entry.usage

    async def _paid_before(self, what: Reservation) -> bool:
        """Whether an earlier holder was charged; if not, none of them has anything open any more.

        Looked at before anything is reserved, too: a job that was paid with the last of an
        account's credits needs no more of them.
        """
        found = await self._books.last(what.account)
        await self._books.reached(found.seq)
        if what.arrived and what.arrived / 1000 < self._books.horizon + SKEW:
            await self._books.recall(what.account, what.job, what.arrived / 1000 - SKEW)
        return await self._oust(Name(what.job, what.turn))

    async def _oust(self, name: Name) -> bool:
        """Release what earlier holders of the job have open, unless it is paid: returns whether.
        Raises Superseded."""
        view = self._books.view
        for claim in view.below(name):
            await self._let_go(claim, "superseded")
        if view.paid(name.job):
            return True
        if view.outranked(name):
            raise Superseded(f"a later holder has the job {name.job}")
        return False

    async def _take(self, what: Reservation, name: Name) -> Held | None:
        """One try. None: others overdrew the account for a moment. Raises Insufficient."""
        if len(what.together) > 1:
            await self._all_covered(what)
        if not await self._books.covers(what.account, what.amount):
            await self._books.news(RECOVERY)
            return None
        since = time.monotonic(), self._clock()
        opened = await self._open(what, name)
        if opened is None:
            return None
        held = Held(what, name, opened.seq, since)
        if opened.balance < 0:
            await self.release(held, "overdrawn")
            await self._books.news(RECOVERY)
            return None
        if what.first and not self._books.view.knows(what.job):
            return held
        return await self._sole(held)

    async def _all_covered(self, what: Reservation) -> None:
        """Whether there is enough for those jobs of the request, too, that nothing was reserved for
        yet: none of them is paid for where not all can be. Raises Insufficient."""
        found = await self._books.last(what.account)
        await self._books.reached(found.seq)
        knows = self._books.view.knows
        needed = what.amount * sum(job == what.job or not knows(job) for job in what.together)
        if 0 <= found.balance < needed:
            raise Insufficient(needed, found.balance)

    async def _open(self, what: Reservation, name: Name) -> Last | None:
        """Write the reservation; returns its sequence and the balance after it. None if this take
        was used up before. Raises LedgerError if it is somebody else's."""
        stored = await self._books.put(
            what.account, Kind.RESERVE, -what.amount, name.opening, RESERVE_PATIENCE, None,
            **_about(name, what.holder, what.amount),
        )  # fmt: skip
        if stored.balance is not None:
            return Last(stored.seq, stored.balance)
        await self._books.settled(stored)  # a repetition: ours, if its first answer was lost
        claim = self._books.view.find(name)
        if claim is None or claim.holder != what.holder:
            raise LedgerError(f"somebody else has the turn {name.turn} of the job {name.job}")
        usable = claim.closed is None and claim.amount == what.amount
        return Last(claim.seq, claim.balance) if usable else None

    async def _sole(self, held: Held) -> Held:
        """`held`, once no earlier holder of the job can be charged any more; or that one was."""
        await self._books.reached(held.seq)
        try:
            paid = await self._oust(held.name)
        except Superseded:
            await self.release(held, "superseded")
            raise
        if paid:
            await self.release(held, "paid")
            return _already(held.what)
        return held

    async def _close(self, held: Held, usage: Usage | None, why: str) -> bool:
        """Charge, or release without `usage`; returns whether it charged. What the broker does not
        take now is owed."""
        self._owed[held.name] = held, usage, why
        charged = await self._finish(held, usage, why)
        self._owed.pop(held.name, None)
        self._own.pop(held.name, None)
        return charged

    async def _finish(self, held: Held, usage: Usage | None, why: str) -> bool:
        what, name = held.what, held.name
        if self._too_old(held):
            log.warning("ledger.too_old", job=name.job, amount=what.amount)
            return False  # the sweep reads the books before it releases
        if usage is not None:
            await self._books.reached(held.seq)
            if self._books.view.outranked(name):
                usage, why = None, "superseded"
        stored = await self._books.put(
            what.account, Kind.CHARGE if usage else Kind.RELEASE,
            what.amount - (usage.cost if usage else 0), name.closing, CLOSE_PATIENCE, usage,
            note=why, **_about(name, what.holder, what.amount),
        )  # fmt: skip
        if not stored.duplicate:
            return usage is not None
        await self._books.settled(stored)
        claim = self._books.view.find(name)
        return claim is not None and claim.closed is Kind.CHARGE

    def _too_old(self, held: Held) -> bool:
        """By either clock: one stands still while the machine sleeps, the other may be set."""
        monotonic, unix = held.since
        return max(time.monotonic() - monotonic, self._clock() - unix) > OLDEST

    async def _let_go(self, claim: Claim, why: str) -> bool:
        """Release somebody's reservation; False if it was closed already, as the view then says."""
        name = claim.name
        stored = await self._books.put(
            claim.account, Kind.RELEASE, claim.amount, name.closing, CLOSE_PATIENCE, None,
            note=why, **_about(name, claim.holder, claim.amount),
        )  # fmt: skip
        if stored.duplicate:
            await self._books.settled(stored)
        return not stored.duplicate

    def _abandoned(self, claim: Claim) -> bool:
        if claim.name in self._own:
            return False
        return claim.holder in self._holders or not self._alive(claim.holder)

    async def _repay(self) -> None:
        """Write what the broker did not take."""
        for held, usage, why in list(self._owed.values()):
            await self._close(held, usage, why)


def _about(name: Name, holder: str, amount: int) -> dict[str, str | int]:
    return {"holder": holder, "amount": amount, **asdict(name)}


def _already(what: Reservation) -> Held:
    return Held(what, Name(what.job, what.turn), 0, paid=True)
