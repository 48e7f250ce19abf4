"""Prepaid credits: reserve before a provider is called, settle after.

The broker keeps the journal. Two of its promises carry everything: an account's counter is always
the sum of its entries, and an entry with a message id (`entries.Name`) is taken once.

- A reservation subtracts the worst case. If that takes the account below zero, the reservation is
  given back.
- Exactly one entry closes a reservation: a charge, which gives back what was not used, or a release
  of all. Both have the same message id, so the second one changes nothing.
- At most one holder of a job charges. A later holder reserves, reads the journal up to its own
  entry, and releases what earlier holders have open; only then it calls a provider. A holder yields
  if it finds a later holder's open reservation, or anybody's charge. The stream orders all entries,
  so of any two holders at least one sees the other.

So a holder that was thought dead may wake up, and nobody is charged twice; the sweep does it no
harm either. Clocks decide only one thing: a reservation is not charged after `OLDEST` seconds, as
the broker forgets message ids after twice that time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import structlog

from fallback.credits.entries import Balance, EntryKind, Hold, Last, Name, Purchase, Reservation
from fallback.credits.faults import Insufficient, LedgerError, Superseded
from fallback.credits.journal import SKEW, Journal
from fallback.credits.state import Booking
from schemas.bus import Bus, BusError

log = structlog.get_logger("ledger")

TAKES = 3
"""Tries of one holder to reserve while others overdraw the account for a moment."""
OLDEST = 3600.0
"""Seconds after which a reservation is no longer charged."""
RESERVE_PATIENCE = 3.0
CLOSE_PATIENCE = 10.0
"""Seconds for the broker to take an entry, reconnections included."""
LOOKS = 5
"""How often a balance is asked for until it is of the moment that the state is of: of a journal
that lost its end, it never is."""
AT_ONCE = 32
"""Balances that are asked for at the same time."""
RECOVERY = 0.05
"""Most seconds to wait, between two tries, for others to give back what they overdrew."""


def elapsed() -> float:
    """Seconds of a clock that nobody sets, and which goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Ledger:
    """The credits, as one process works with them.

    `alive` tells whether a holder may still be at work, and is true in doubt. `clock`:
    seconds, as of `elapsed`. Every method may raise LedgerError: the broker is away, or refused.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        replicas: int = 1,
        alive: Callable[[str], bool] = lambda holder: True,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._journal = Journal(bus, replicas)
        self.grant, self.history = self._journal.grant, self._journal.history
        self.near, self.topped = self._journal.near, self._journal.topped
        self._alive = alive
        self._clock = clock
        self._own: set[Name] = set()
        """Reservations at work in this process, which the sweep leaves alone."""
        self._owed: dict[Name, tuple[Hold, Purchase | None, str]] = {}
        """Closing entries that the broker has not confirmed."""
        self._holders: set[str] = set()
        """This process's own names: what they left open and is not in `_own` is abandoned."""

    async def open(self) -> None:
        """Make the stream if it is missing, read its recent part, follow it. Raises BusError."""
        await self._journal.open()

    async def close(self) -> None:
        """Write once more the entries that the broker did not take, then stop following."""
        with contextlib.suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._repay()
        await self._journal.close()

    async def reserve(self, what: Reservation) -> Hold:
        """Take the worst case out of the account. A turn can have one reservation open at a time.
        Raises Insufficient, Superseded."""
        if what.amount < 0:
            raise ValueError(f"a reservation of {what.amount}")
        self._holders.add(what.holder)
        if not what.first and await self._paid_before(what):
            return _already(what)
        used = self._journal.state.takes(what.job, what.turn)
        for take in range(used, used + TAKES):
            name, hold = Name(what.job, what.turn, take), None
            self._own.add(name)  # before it is written: a sweep could come between
            try:
                hold = await self._take(what, name)
            finally:
                if hold is None:
                    self._own.discard(name)  # if the entry was written, a sweep releases it
            if hold is not None:
                return hold
        raise Insufficient(what.amount, (await self._journal.last(what.account)).balance)

    async def settle(self, hold: Hold, purchase: Purchase) -> bool:
        """Charge the cost of `purchase` and give back the rest, never charging more than the
        reservation. Returns whether this charged: not if another holder did, or still may.

        Raises LedgerError if the broker is away for long. Then each `sweep` tries the charge again,
        as long as this process lives.
        """
        if hold.paid:
            return False
        if not 0 <= purchase.cost <= hold.what.amount:
            purchase = purchase.within(hold.what.amount)
        return await self._close(hold, purchase, "")

    async def release(self, hold: Hold, why: str) -> None:
        """Give the whole reservation back."""
        if not hold.paid:
            await self._close(hold, None, why)

    async def sweep(self) -> int:
        """Release what dead holders left open, and write again what the broker did not take.
        Returns how many reservations were released."""
        with contextlib.suppress(BusError):
            await self._journal.check()
        await self._repay()
        # Otherwise a reservation that was closed a moment ago would look abandoned.
        await self._journal.fresh()
        count = 0
        for booking in self._journal.state.open():
            if self._abandoned(booking) and await self._end(booking, booking.name, None, "swept"):
                about = {"holder": booking.holder, "amount": booking.amount}
                log.info("ledger.swept", job=booking.name.job, **about)
                count += 1
        return count

    async def balance(self, account: str) -> Balance:
        for _ in range(LOOKS):
            found = await self._journal.last(account)
            await self._journal.reached(found.seq)
            if self._journal.last_read(account).seq <= found.seq:
                break  # both numbers are of one moment: no later entry has been read
        # Below zero it is only until whoever overdrew it has given that back.
        return Balance(max(0, found.balance), self._journal.state.reserved(account))

    async def balances(self, most: int | None = None) -> dict[str, Balance]:
        """The balances of all accounts, or of the first ones, by name. Waits until reservations
        from before the window are read, too."""
        await self._journal.whole()
        names = (await self._journal.accounts())[:most]
        found = dict[str, Balance]()
        for at in range(0, len(names), AT_ONCE):
            some = names[at : at + AT_ONCE]
            found |= zip(some, await asyncio.gather(*map(self.balance, some)), strict=True)
        return found

    def standing(self, most: int) -> tuple[dict[str, Balance], Balance | None]:
        """The balances as far as this process has heard of them, which asks nobody: of the accounts
        that were used last, and the sum of all others, if there are any."""
        reserved, heard = self._journal.state.all_reserved(), self._journal.heard()
        named = {
            account: Balance(max(0, heard[account].balance), reserved[account])
            for account in self._journal.newest(most)
        }
        others = heard.keys() - named.keys()
        available = sum(max(0, heard[account].balance) for account in others)
        rest = Balance(available, sum(reserved[account] for account in others))
        return named, rest if others else None

    async def recollect(self, most: int) -> None:
        """Ask for accounts of which nothing was heard lately, until `most` are known."""
        await self._journal.whole()
        heard = self._journal.heard()
        unheard = [name for name in await self._journal.accounts() if name not in heard]
        for account in unheard[: max(0, most - len(heard))]:
            await self._journal.last(account)

    async def purchases(self, *, since: float = 0.0, account: str = "") -> AsyncIterator[Purchase]:
        """What was charged since `since` (Unix seconds), for `account` or for all, oldest first."""
        async for entry in self.history(account, since):
            if entry.kind is EntryKind.CHARGE and entry.usage is not None:
                yield entry.usage

    async def _paid_before(self, what: Reservation) -> bool:
        """Whether an earlier holder was charged. If not, this releases what earlier holders left
        open.

        `reserve` asks this before it reserves: an account that spent its last credits on this job
        needs no more of them.
        """
        found = await self._journal.last(what.account)
        await self._journal.reached(found.seq)
        # What became of so old a job may stand before the entries that the state has.
        if what.arrived and what.arrived / 1000 < self._journal.horizon + SKEW:
            await self._journal.recall(what.account, what.job, what.arrived / 1000 - SKEW)
        return await self._oust(Name(what.job, what.turn))

    async def _oust(self, name: Name) -> bool:
        """Release what earlier holders of the job have open; returns whether the job is paid.
        Raises Superseded."""
        state = self._journal.state
        for booking in state.below(name):
            await self._end(booking, booking.name, None, "superseded")
        if state.paid(name.job):
            return True
        if state.outranked(name):
            raise Superseded(f"a later holder has the job {name.job}")
        return False

    async def _take(self, what: Reservation, name: Name) -> Hold | None:
        """One try to reserve. None if others overdrew the account for a moment, or if this take
        is used up. Raises Insufficient."""
        if len(what.together) > 1:
            await self._all_covered(what)
        if not await self._journal.covers(what.account, what.amount):
            await self._journal.news(RECOVERY)
            return None
        since = self._clock()
        opened = await self._open(what, name)
        if opened is None:
            return None
        hold = Hold(what, name, opened.seq, since)
        if opened.balance < 0:  # another was reserved for between the look and the entry
            await self.release(hold, "overdrawn")
            await self._journal.news(RECOVERY)
            return None
        if what.first and not self._journal.state.knows(what.job):
            return hold
        return await self._sole(hold)

    async def _all_covered(self, what: Reservation) -> None:
        """Check that the account can also pay the jobs of this request that have no reservation
        yet: either all are paid for, or none. Raises Insufficient."""
        found = await self._journal.last(what.account)
        await self._journal.reached(found.seq)
        knows = self._journal.state.knows
        needed = what.amount * sum(job == what.job or not knows(job) for job in what.together)
        if 0 <= found.balance < needed:
            raise Insufficient(needed, found.balance)

    async def _open(self, what: Reservation, name: Name) -> Last | None:
        """Write the reservation; returns its sequence and the balance after it. None if this take
        is used up. Raises LedgerError if another holder took it."""
        stored = await self._journal.put(
            what.account, EntryKind.RESERVE, -what.amount, _id(name, "reserve"), RESERVE_PATIENCE,
            None, **_about(what, name),
        )  # fmt: skip
        if stored.balance is not None:
            return Last(stored.seq, stored.balance)
        # The broker had this entry before. It is ours if the answer to it was lost.
        await self._journal.settled(stored)
        booking = self._journal.state.find(name)
        if booking is None or booking.holder != what.holder:
            raise LedgerError(f"somebody else has the turn {name.turn} of the job {name.job}")
        usable = booking.closed is None and booking.amount == what.amount
        return Last(booking.seq, booking.balance) if usable else None

    async def _sole(self, hold: Hold) -> Hold:
        """Make sure that no earlier holder of the job can charge any more. Returns `hold`, or a
        paid hold if an earlier holder has charged."""
        await self._journal.reached(hold.seq)
        try:
            paid = await self._oust(hold.name)
        except Superseded:
            await self.release(hold, "superseded")
            raise
        if paid:
            await self.release(hold, "paid")
            return _already(hold.what)
        return hold

    async def _close(self, hold: Hold, purchase: Purchase | None, why: str) -> bool:
        """Charge, or release if there is no purchase; returns whether this charged. If it raises,
        the entry stays in `_owed` and is written later."""
        self._owed[hold.name] = hold, purchase, why
        charged = await self._finish(hold, purchase, why)
        self._owed.pop(hold.name, None)
        self._own.discard(hold.name)
        return charged

    async def _finish(self, hold: Hold, purchase: Purchase | None, why: str) -> bool:
        what, name = hold.what, hold.name
        if self._too_old(hold):
            log.warning("ledger.too_old", job=name.job, amount=what.amount)
            return False  # the sweep reads the journal before it releases
        if purchase is not None:
            # No further than to our own entry: a later holder closes our reservation before it goes
            # on, and the broker takes only one closing entry.
            await self._journal.reached(hold.seq)
            if self._journal.state.outranked(name):
                purchase, why = None, "superseded"
        if await self._end(what, name, purchase, why):
            return purchase is not None
        booking = self._journal.state.find(name)
        return booking is not None and booking.closed is EntryKind.CHARGE

    def _too_old(self, hold: Hold) -> bool:
        return self._clock() - hold.since > OLDEST

    async def _end(
        self, what: Reservation | Booking, name: Name, purchase: Purchase | None, why: str
    ) -> bool:
        """Write the entry that closes a reservation, ours or another's. False if the reservation
        was closed before; then the state tells how."""
        kind, cost = (EntryKind.CHARGE, purchase.cost) if purchase else (EntryKind.RELEASE, 0)
        stored = await self._journal.put(
            what.account, kind, what.amount - cost, _id(name, "close"), CLOSE_PATIENCE, purchase,
            note=why, **_about(what, name),
        )  # fmt: skip
        if stored.balance is None:
            await self._journal.settled(stored)
        return stored.balance is not None

    def _abandoned(self, booking: Booking) -> bool:
        if booking.name in self._own:
            return False
        return booking.holder in self._holders or not self._alive(booking.holder)

    async def _repay(self) -> None:
        """Write the entries that the broker did not take."""
        for hold, purchase, why in list(self._owed.values()):
            await self._close(hold, purchase, why)


def _about(what: Reservation | Booking, name: Name) -> dict[str, str | int]:
    about: dict[str, str | int] = {"job": name.job, "turn": name.turn, "take": name.take}
    return {"holder": what.holder, "amount": what.amount, **about}


def _already(what: Reservation) -> Hold:
    return Hold(what, Name(what.job, what.turn), 0, paid=True)


def _id(name: Name, what: str) -> str:
    """The message id of an entry. A charge and a release share one, so the broker takes only one of
    them."""
    return f"{name.job}:{name.turn}.{name.take}:{what}"
