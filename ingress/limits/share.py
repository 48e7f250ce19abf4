"""What one ingress may use of the limits of one key or account. Pure.

Ingresses share a record (`schemas.limits`). Before a request is admitted, its ingress must hold a
permit for it: a part of the meters that it wrote into the record as its lease, or a place in the
gauges. The usual request takes from what is held, without a word to the broker; the next write says
what was used.

A write may fail, or nobody may know whether it did. Until that is known, an ingress uses no more
than what it holds in either case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ingress.limits.month import Month, Sums
from ingress.limits.reached import (
    FULL_RECHECK,
    OPEN_RECHECK,
    PLACE_RECHECK,
    SHUT_RECHECK,
    Reached,
    UsedByOthers,
    longest,
    look_again,
    room_at,
)
from ingress.limits.terms import Cost, Moment, Refusal, Terms
from schemas.limits import Meter, Record, Row

T = TypeVar("T")
HOLD = 200
"""Milliseconds for which a lease of a meter may be used. What is left then is given back."""
TTL = 2500
"""Milliseconds after its last write until the places of an ingress that died are free."""
RENEW = 800
"""Milliseconds after which places that are in use are prolonged."""
GATHER = 250
"""Milliseconds for which what was given back, and the sums of the month, wait for a write."""
LINGER = 2
"""Milliseconds for which a free place waits for the next request before it is given back."""
AWAITED = 50
"""Milliseconds that a request has to take the place that was fetched for it."""
STEPS = 120
"""A window's uses are noted in so many steps: what is used counts for up to a 120th too long."""
PART = 2
"""Ahead of its requests an ingress leases at most a half of its share of what is left."""
MOST = 16
"""Nor does it lease more than a sixteenth of the limit, so that a tiny one has nothing unused."""
SPARE = 8
"""An eighth of all places may lie ready in one ingress, if that many are free."""
NEARLY = 0.9
"""The part of a month's limit from which on it is near."""


@dataclass(slots=True)
class _Write:
    """A write under way. `places`: that may be used then. `left`, `held`, `owed`: as they were
    before it."""

    row: Row
    places: dict[str, int]
    spent: dict[str, Meter]
    sums: Sums
    left: dict[str, int]
    held: dict[str, int]
    owed: int
    used: dict[str, int] = field(default_factory=dict)
    """Of the leases, since it was sent."""


class Taken(NamedTuple):
    """What one request took: when, which meters, which places."""

    at: Moment
    meters: tuple[str, ...]
    gauges: tuple[str, ...]


class Share:
    """`terms`: the limits. `window`: milliseconds."""

    def __init__(self, owner: str, terms: Terms, window: int) -> None:
        self.terms = terms
        self._owner = owner
        self._window = window
        self._step = max(1, window // STEPS)
        self._serial = 0
        self._record = Record()
        """As it was read or written last."""
        self._read_at = -OPEN_RECHECK
        self._others = UsedByOthers(self._step)
        self._until = 0
        self._left: dict[str, int] = {}
        """Of the leases of meters, which end at `_until`."""
        self._used: dict[str, int] = {}
        """Of meters, since the last lease began at `_since`: how fast they are used."""
        self._since = self._freed_at = self._fetched_at = 0
        self._spent: dict[str, Meter] = {}
        """Uses that are not in the record yet. Those of a lease are covered by it."""
        self.alive = 0
        self._held: dict[str, int] = {}
        """Places, up to `alive`."""
        self._in_use: dict[str, int] = {}
        self._fetched: dict[str, int] = {}
        """Places that were fetched for requests, which have not taken them yet."""
        self._hold_time = 0.0
        self._month = Month()
        self._owed = 0
        """Since when something waits that no lease covers; 0 if nothing does."""
        self._write: _Write | None = None
        self._lost: _Write | None = None
        """A write of which nobody knows whether it was taken."""
        self.reached = Reached()

    def change(self, terms: Terms) -> None:
        """From now on, these are the limits."""
        self.terms = terms
        self.reached.clear()

    # What requests take, and give back

    def lacks(self, cost: Cost, now: Moment) -> bool:
        """Whether a permit is missing here for the request, which the record may have."""
        terms = self.terms
        if terms.meters:
            if now.latest > self._until:
                return True
            for meter in terms.meters:
                if self._left.get(meter, 0) < cost.of(meter):
                    return True
        for gauge in terms.gauges_of(cost):
            used = self._in_use.get(gauge, 0)
            if now.latest > self.alive or used >= self._held.get(gauge, 0):
                return True
        return bool(terms.budgets) and self._is_month_unsure(now)

    def _is_month_unsure(self, now: Moment) -> bool:
        """Whether the sums of the month are too old to go by, or at a limit."""
        part = self._month.part(self.terms.budgets, self._record, now)
        old = SHUT_RECHECK if part >= NEARLY else OPEN_RECHECK
        return part >= 1 or now.latest > self._read_at + old

    def take(self, cost: Cost, now: Moment) -> Taken:
        """Take the permit that `lacks` found to be here."""
        for meter in self.terms.meters:
            amount = cost.of(meter)
            self._left[meter] -= amount
            self._used[meter] = self._used.get(meter, 0) + amount
            if self._write is not None:
                self._write.used[meter] = self._write.used.get(meter, 0) + amount
            self._note(meter, -(-now.latest // self._step), amount)
        gauges = self.terms.gauges_of(cost)
        for gauge in gauges:
            self._in_use[gauge] = self._in_use.get(gauge, 0) + 1
            self._fetched[gauge] = max(0, self._fetched.get(gauge, 0) - 1)
        return Taken(now, tuple(self.terms.meters), gauges)

    def _note(self, meter: str, step: int, amount: int) -> None:
        uses = self._spent.setdefault(meter, {})
        uses[step * self._step] = uses.get(step * self._step, 0) + amount

    def settle(self, meter: str, more: int, taken: Moment, now: Moment) -> None:
        """A request used `more` of a meter than it took at the moment `taken`; less, if negative:
        that is noted for a moment before what it is given back of, and so ceases to count first."""
        if more < 0:
            self._note(meter, taken.earliest // self._step, more)
            self.reached.forget(meter)
        elif more:
            self._note(meter, -(-now.latest // self._step), more)
        if more:
            self._owed = self._owed or now.latest

    def spend(self, tokens: int, micro: int, now: Moment) -> None:
        """Add to the sums of the month."""
        self._month.spend(tokens, micro, now)
        self._owed = self._owed or now.latest

    def free(self, gauge: str, now: Moment, seconds: float = 0.0) -> None:
        """Give a place back. `seconds`: for how long it was taken; 0 if that tells nothing."""
        self._in_use[gauge] -= 1
        if not self._in_use[gauge]:
            del self._in_use[gauge]
        self.reached.forget(gauge)
        self._freed_at = now.latest
        if seconds:
            self._hold_time += (seconds - self._hold_time) * (0.1 if self._hold_time else 1.0)

    # What it reads and writes

    def due(self, now: Moment) -> int | None:
        """Milliseconds until something must be written though nobody asks for a permit; None if
        nothing must, or a write is under way."""
        if self._write is not None:
            return None
        times = []
        if any(left > 0 for left in self._left.values()):
            times.append(self._until + 2 * PLACE_RECHECK)  # the next request may write before
        if self._owed:
            times.append(self._owed + GATHER)
        if self._held or self._in_use:
            times.append(self.alive - TTL + RENEW)
        if any(map(self._has_surplus, self._held)):
            awaited = self._fetched_at + AWAITED if any(self._fetched.values()) else 0
            times.append(max(awaited, self._freed_at + LINGER))
        if self._lost is not None:
            times.append(now.latest + GATHER)
        return max(0, min(times) - now.latest) if times else None

    def _has_surplus(self, gauge: str) -> bool:
        used = self._in_use.get(gauge, 0)
        return self._held[gauge] > used + (self.terms.places(gauge) // SPARE if used else 0)

    def saw(self, record: Record, now: Moment) -> None:
        """The record was read. If the outcome of a write is unknown, this tells it."""
        self._record, self._read_at = record, now.latest
        lost, self._lost = self._lost, None
        row = record.rows.get(self._owner)
        if lost is not None and row is not None and row.serial == lost.row.serial:
            self._wrote_down(lost)
            self._owed = self._owed or now.latest  # to give back its lease, which nobody used

    def is_unsure(self, wanted: Sequence[Cost], now: Moment) -> bool:
        """Whether the record must be read before any of these is refused, or let in by it."""
        if self._lost is not None or (self.terms.budgets and self._is_month_unsure(now)):
            return True
        return any(next(self._reached(cost, now), None) for cost in wanted)

    def propose(self, wanted: Sequence[Cost], now: Moment) -> Record | None:
        """The next record, with permits for those of `wanted` that there is room for; None if the
        record can stay as it is. `written`, `refused` or `unknown` must be called next."""
        record = self._rest(now)
        had = self._record.rows.get(self._owner)
        self._month.add_to(record, now)
        row = Row(self._owner, self._serial + 1, now.latest + HOLD, {}, now.latest + TTL)
        peers = 1 + sum(each.alive >= now.earliest for each in record.rows.values())
        fits = self._fitting(record, wanted, now)
        for meter, most in self.terms.meters.items():
            free, need = most - record.total(meter), fits.get(meter, 0)
            if ahead := self._ahead(meter, need, free - need, peers, now):
                row.leases[meter] = ahead
        places = {}
        for gauge in {*self._in_use, *filter(self.terms.is_gauge, fits)}:
            need = self._in_use.get(gauge, 0) + fits.get(gauge, 0)
            most = self.terms.places(gauge)
            free = most - record.held(gauge)
            row.gauges[gauge] = need + max(0, min(most // SPARE, (free - need) // (2 * peers)))
            # Others may have got the places that this ingress did not prolong in time.
            places[gauge] = min(row.gauges[gauge], free)
        self._fetched, self._fetched_at = {name: fits.get(name, 0) for name in places}, now.latest
        if not (row.leases or row.gauges or self._owed or self._gives_back(had)):
            return None
        self._begin(row, places)
        record.rows[self._owner] = row
        return record

    def _rest(self, now: Moment) -> Record:
        """The record as others are concerned, with all that was used here."""
        since = now.earliest - self._window
        record = self._record.aged(since, now.earliest)
        record.rows.pop(self._owner, None)
        for meter, uses in self._spent.items():
            record.add(meter, uses, since)
        return record

    def _gives_back(self, had: Row | None) -> bool:
        unused = any(left > 0 for left in self._left.values())
        return had is not None and (bool(had.gauges) or unused)

    def _fitting(self, record: Record, wanted: Sequence[Cost], now: Moment) -> dict[str, int]:
        """The sums of what those need for whom there is room, by meter and gauge."""
        found: dict[str, int] = {}
        if self._month.part(self.terms.budgets, self._record, now) >= 1:
            return found
        free = {meter: most - record.total(meter) for meter, most in self.terms.meters.items()}
        for cost in wanted:
            for gauge in self.terms.gauges_of(cost):
                used = record.held(gauge) + self._in_use.get(gauge, 0)
                free.setdefault(gauge, self.terms.places(gauge) - used)
            needs = dict(self.terms.needs(cost))
            if all(found.get(name, 0) + amount <= free[name] for name, amount in needs.items()):
                found |= {name: found.get(name, 0) + amount for name, amount in needs.items()}
        return found

    def _ahead(self, meter: str, need: int, room: int, peers: int, now: Moment) -> int:
        """How much to lease: what is needed now, and what will be if it is used as fast as the last
        one. Without a need, what is left of that one."""
        if need:
            elapsed = max(HOLD // 2, now.latest - self._since)
            soon = self._used.get(meter, 0) * HOLD // elapsed
            most = min(room // (PART * peers), self.terms.meters[meter] // MOST)
            return need + max(0, min(soon, most))
        left = self._left.get(meter, 0)
        return max(0, min(left, room)) if now.latest <= self._until else 0

    def _begin(self, row: Row, places: dict[str, int]) -> None:
        """Hold, while it is written, what is held in either case."""
        self._serial += 1
        spent = {meter: dict(uses) for meter, uses in self._spent.items()}
        old = self._left, self._held, self._owed
        self._write = _Write(row, places, spent, self._month.unwritten, *old)
        self._left = _least(self._left, row.leases)
        self._held = _least(self._held, places)
        self._owed = 0

    def written(self, record: Record, now: Moment) -> None:
        """The proposed `record` is the one that counts."""
        write, self._write = self._write, None
        assert write is not None
        self._record, self._read_at = record, now.latest
        self._wrote_down(write)
        self._until = write.row.until
        self._left = _without(write.row.leases, write.used)
        self._used, self._since = {}, now.latest
        self.reached.clear()

    def _wrote_down(self, write: _Write) -> None:
        self._spent = {
            meter: rest
            for meter, uses in self._spent.items()
            if (rest := _without(uses, write.spent.get(meter, {})))
        }
        self._month.wrote_down(write.sums)
        self._held, self.alive = write.places, write.row.alive

    def refused(self) -> None:
        """The proposed record does not count, as another ingress was quicker."""
        write, self._write = self._write, None
        assert write is not None
        self._left, self._held = _without(write.left, write.used), write.held
        self._owed = write.owed or self._owed

    def unknown(self) -> None:
        """Nobody knows whether the proposed record counts: the next look at it tells."""
        self._lost, self._write = self._write, None
        assert self._lost is not None
        self._left = {}
        self._owed = self._lost.owed or self._owed

    # Where there is no room

    def refusal(self, cost: Cost, now: Moment) -> Refusal | None:
        """Which limit has no room for a request, by the record as it was seen last."""
        found = list(self._reached(cost, now))
        for name, after in found:
            until = look_again(self._record, self.terms, name, after, now)
            self.reached.note(name, self.terms.amount(cost, name), until, now.earliest + after)
        return longest(found)

    def _reached(self, cost: Cost, now: Moment) -> Iterator[Refusal]:
        for name, most in self.terms.budgets.items():
            if self._month.used(name, self._record, now) >= most:
                yield Refusal(name, now.left)
        record = self._rest(now)
        for gauge in self.terms.gauges_of(cost):
            most = self.terms.places(gauge)
            if record.held(gauge) + self._in_use.get(gauge, 0) >= most:
                yield Refusal(gauge, max(1, round(1000 * (self._hold_time or 1.0) / most)))
        for meter, most in self.terms.meters.items():
            excess = record.total(meter) + cost.of(meter) - most
            if excess > 0:
                moment = room_at(record, meter, excess) + self._window
                yield Refusal(meter, max(FULL_RECHECK, moment + 1 - now.earliest))

    def is_elsewhere(self, gauge: str) -> bool:
        """Whether other ingresses have places, as far as is known."""
        return any(
            gauge in row.gauges for row in self._record.rows.values() if row.owner != self._owner
        )

    # What is told of it

    def used_of_month(self, budget: str, now: Moment) -> int:
        """As far as it is known here."""
        return self._month.used(budget, self._record, now)

    def remaining(self, meter: str, now: Moment) -> tuple[int, int]:
        """How much of a meter is left, and milliseconds until all of it is."""
        since, spent = now.earliest - self._window, self._spent.get(meter, {})
        total, newest = self._others.used(self._record, self._owner, meter, since)
        total += sum(amount for moment, amount in spent.items() if moment >= since)
        reset = max(newest, *spent) - since if spent else newest - since
        return max(0, self.terms.meters[meter] - total), max(0, reset)

    def is_idle(self, now: Moment) -> bool:
        """Whether nothing would be lost if this were forgotten."""
        busy = self._write or self._lost or self._in_use or self._owed or self._spent
        return not busy and now.latest > self._until and now.latest > self.alive


def _least(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: min(amount, other.get(name, 0)) for name, amount in one.items()}


def _without(amounts: dict[T, int], less: dict[T, int]) -> dict[T, int]:
    """What is left of each amount; those of which nothing is are left out."""
    rest = {name: amount - less.get(name, 0) for name, amount in amounts.items()}
    return {name: amount for name, amount in rest.items() if amount}
