"""Limits that are reached, and when there is room again. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ingress.limits.terms import Cost, Moment, Refusal, Terms
from schemas.limits import Record

OPEN_RECHECK, SHUT_RECHECK, FULL_RECHECK, PLACE_RECHECK = 1000, 250, 50, 10
"""Milliseconds after which the record is looked at again: of a month that is far from its limit; of
one that is near it; at the soonest, of a window that is used up; of places that are taken."""


class Reached:
    """Limits that were found to be reached a moment ago, so that most requests beyond them are
    refused without another look at the record."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int, int]] = {}
        """For which amounts each is reached, until when that is believed, and when there is
        room."""

    def note(self, name: str, amount: int, until: int, room_at: int) -> None:
        self._found[name] = amount, until, room_at

    def forget(self, name: str) -> None:
        """Something of it was given back."""
        self._found.pop(name, None)

    def clear(self) -> None:
        self._found.clear()

    def by(self, cost: Cost, terms: Terms, now: Moment) -> Refusal | None:
        """Which of them a request would exceed."""
        return longest(
            Refusal(name, max(1, room_at - now.earliest))
            for name, (amount, until, room_at) in self._found.items()
            if now.latest < until and terms.amount(cost, name) >= amount
        )


class UsedByOthers:
    """What a record says of others' use, summed up once a step of the window: every answer tells of
    it. In between it can only fall."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._record: Record | None = None
        self._sums: dict[str, tuple[int, int, int]] = {}
        """By meter: since when it was summed up, the sum, and its newest moment."""

    def used(self, record: Record, owner: str, meter: str, since: int) -> tuple[int, int]:
        """(sum, newest moment) of a meter since that moment, but for the leases of `owner`."""
        if record is not self._record:
            self._record, self._sums = record, {}
        found = self._sums.get(meter)
        if found is None or since - found[0] >= self._step:
            kept = [(moment, n) for moment, n in record.used(meter, but=owner) if moment >= since]
            total = sum(n for _, n in kept)
            newest = max((moment for moment, n in kept if n > 0), default=since)
            found = self._sums[meter] = since, total, newest
        return found[1:]


def look_again(record: Record, terms: Terms, name: str, after: int, now: Moment) -> int:
    """The moment when the record is worth another look for the limit `name`, which has room `after`
    so many milliseconds: others may give something back before."""
    if name in terms.budgets:
        return now.latest + SHUT_RECHECK
    if name not in terms.meters:
        return now.latest + PLACE_RECHECK
    leases = [row.until for row in record.rows.values() if row.leases.get(name)]
    soon = [until + 4 * PLACE_RECHECK for until in leases if until > now.latest]
    soonest = min([now.latest + min(after, OPEN_RECHECK), *soon])
    return max(soonest, now.latest + FULL_RECHECK)


def longest(refusals: Iterable[Refusal]) -> Refusal | None:
    """The one that says when there is room in all of the limits."""
    return max(refusals, key=lambda refusal: refusal.after, default=None)


def room_at(record: Record, meter: str, excess: int) -> int:
    """The moment until which so much of what was used of a meter was used."""
    moment = 0
    for stamp, amount in sorted(record.used(meter)):
        moment, excess = stamp, excess - amount
        if excess <= 0:
            break
    return moment
