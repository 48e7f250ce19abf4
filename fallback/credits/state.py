"""Reads the journal's entries, and derives from them which reservations are open and which jobs are
paid. Pure.

Each message of the stream ``CREDITS`` is one entry. The broker adds ``Nats-Incr`` to the account's
counter and stores the sum as the body (``{"val": "70"}``); the header `HEADER` says in JSON what
the change is for. The stream orders all entries, and this module relies on that order, never on
clocks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import orjson

from fallback.credits.entries import Entry, EntryKind, Name, Purchase
from schemas import bounds, subjects
from schemas.bus import Message

HEADER = "Headrace-Entry"
INCREMENT = "Nats-Incr"
ID = "Nats-Msg-Id"
CLOSING = frozenset({EntryKind.CHARGE, EntryKind.RELEASE})


@dataclass(slots=True)
class Booking:
    """A reservation in the journal. `balance`: of the account after the reservation. `closed`: the
    kind of entry that closed it; None while it is open. `seq`: of the entry that opened it; 0 if
    that was not read."""

    name: Name
    account: str
    holder: str
    amount: int
    seq: int
    at: float
    balance: int = 0
    closed: EntryKind | None = None


class LedgerState:
    """Applies entries in order; `seq` is the last one's."""

    def __init__(self) -> None:
        self.seq = 0
        self._jobs: dict[str, list[Booking]] = {}
        self._open: dict[Name, Booking] = {}

    def apply(self, entry: Entry) -> None:
        """An entry that was applied before changes nothing."""
        if entry.seq <= self.seq:
            return
        self.seq = entry.seq
        if entry.kind is EntryKind.RESERVE:
            self._reserve(entry)
        elif entry.kind in CLOSING:
            self._close(entry)

    def _reserve(self, entry: Entry) -> None:
        # The broker drops repeated ids for hours; a copy that comes even later changes nothing.
        if self.find(name_of(entry)) is None:
            self._add(_booked(entry, entry.seq, entry.balance))

    def _close(self, entry: Entry) -> None:
        booking = self.find(name_of(entry))
        if booking is None:
            # It was opened before the first entry that was read; its end counts all the same.
            booking = _booked(entry, 0, 0)
            self._add(booking)
        if booking.closed is None:
            booking.closed = entry.kind
            self._open.pop(booking.name, None)

    def _add(self, booking: Booking) -> None:
        self._jobs.setdefault(booking.name.job, []).append(booking)
        if booking.closed is None:
            self._open[booking.name] = booking

    def adopt(self, older: LedgerState) -> None:
        """Take over the reservations of `older`, a state of entries before those of this one."""
        for bookings in older._jobs.values():
            for booking in bookings:
                if self.find(booking.name) is None:
                    self._add(booking)

    def find(self, name: Name) -> Booking | None:
        return next((each for each in self._jobs.get(name.job, ()) if each.name == name), None)

    def takes(self, job: str, turn: int) -> int:
        """How many takes of this holder are used up, which is the number of the next take."""
        own = [each.name.take for each in self._jobs.get(job, ()) if each.name.turn == turn]
        return max(own, default=-1) + 1

    def knows(self, job: str) -> bool:
        return job in self._jobs

    def paid(self, job: str) -> bool:
        """Whether any holder of `job` has charged for it."""
        return any(booking.closed is EntryKind.CHARGE for booking in self._jobs.get(job, ()))

    def below(self, name: Name) -> list[Booking]:
        """Open reservations of earlier holders of the job."""
        bookings = self._jobs.get(name.job, ())
        return [each for each in bookings if each.closed is None and each.name.turn < name.turn]

    def outranked(self, name: Name) -> bool:
        """Whether the holder of `name` must not charge: a later holder has a reservation open, or
        somebody else has charged."""
        return any(
            each.closed is EntryKind.CHARGE or (each.closed is None and each.name.turn > name.turn)
            for each in self._jobs.get(name.job, ())
            if each.name != name
        )

    def open(self) -> list[Booking]:
        return list(self._open.values())

    def reserved(self, account: str) -> int:
        """Micro-units in open reservations of `account`."""
        return sum(booking.amount for booking in self._open.values() if booking.account == account)

    def all_reserved(self) -> Counter[str]:
        """Micro-units in open reservations, by account."""
        found = Counter[str]()
        for booking in self._open.values():
            found[booking.account] += booking.amount
        return found

    def forget(self, before: float) -> None:
        """Drop jobs whose reservations are all closed and were opened `before` this time, by the
        broker's clock."""
        for job in [job for job, bookings in self._jobs.items() if _over(bookings, before)]:
            del self._jobs[job]

    def __len__(self) -> int:
        return len(self._jobs)


def _booked(entry: Entry, seq: int, balance: int) -> Booking:
    about = name_of(entry), entry.account, entry.holder, entry.amount
    return Booking(*about, seq, entry.at, balance)


def _over(bookings: list[Booking], before: float) -> bool:
    return all(booking.closed is not None and booking.at < before for booking in bookings)


def name_of(entry: Entry) -> Name:
    return Name(entry.job, entry.turn, entry.take)


def headers(
    kind: EntryKind, change: int, id: str, purchase: Purchase | None = None, **about: str | int
) -> dict[str, str]:
    """The headers of an entry; `about` holds fields of `Entry`."""
    said: dict[str, Any] = {"kind": kind, **about}
    if purchase is not None:
        said["usage"] = dict(zip(_BOUGHT, _bought(purchase), strict=True))
    # A header holds only ASCII without line breaks: json escapes the rest, orjson does not.
    text = json.dumps(said, separators=(",", ":"))
    return {INCREMENT: f"{change:+d}", ID: id, HEADER: text}


_ABOUT = ("job", "turn", "take", "holder", "amount", "note")
_BOUGHT = {field.name: field.type for field in fields(Purchase)}
_bought = attrgetter(*_BOUGHT)
"""`asdict` takes 8 µs, as it copies whatever stands in it."""


def parse(message: Message) -> Entry:
    """The entry in a message of the stream; if Headrace did not write it, it is `EntryKind.OTHER`.

    Raises ValueError if it is no entry of a counter at all.
    """
    found = message.headers or {}
    try:
        seq, ns = subjects.place_of(message.reply)
        change, balance = int(found[INCREMENT]), int(orjson.loads(message.data)["val"])
        account = subjects.recorded(message.subject)
    except (KeyError, IndexError, TypeError) as fault:
        raise ValueError(f"no entry of a counter: {message.subject}: {fault!r}") from None
    return _entry(found.get(HEADER, ""), account, change, balance, seq, ns / 1e9)


def _entry(text: str, account: str, change: int, balance: int, seq: int, at: float) -> Entry:
    try:
        said: Mapping[str, Any] = orjson.loads(text)
        kind = EntryKind(said["kind"])
        about = {name: said[name] for name in _ABOUT if name in said}  # later versions may say more
        usage = said.get("usage")
        bought = _purchase(usage) if usage else None
        return Entry(account, kind, change, balance, seq, at, usage=bought, **about)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Entry(account, EntryKind.OTHER, change, balance, seq, at)


def _purchase(usage: Mapping[str, Any]) -> Purchase:
    """What a charge was for. An entry stays for ever, so a number that a provider made up, and a
    release before this one wrote down, counts for nothing."""
    known = {name: value for name, value in usage.items() if name in _BOUGHT}
    return Purchase(**{name: v for name, v in known.items() if _is_sound(_BOUGHT[name], v)})


def _is_sound(kind: Any, value: object) -> bool:
    if kind == "int":
        return type(value) is int and 0 <= value <= bounds.WHOLE
    if kind == "float":
        return isinstance(value, int | float) and 0 <= value <= bounds.WHOLE
    return type(value) is (bool if kind == "bool" else str)
