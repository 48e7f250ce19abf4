"""The journal's entries, and what the ledger takes and returns.

Money is whole micro-units of the currency (1 USD = 1,000,000), except in texts that people read and
write.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

MICRO = 1_000_000


class EntryKind(StrEnum):
    GRANT = "grant"
    RESERVE = "reserve"
    CHARGE = "charge"
    """Closes a reservation: the part beyond the cost goes back to the account."""
    RELEASE = "release"
    """Closes a reservation: all of it goes back to the account."""
    OTHER = "other"
    """A change that somebody made without Headrace: it changes the balance and nothing else."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What a provider was used for, and the cost (micro-units).

    `prompt` includes `cached`; `stored`: quarters of a token, charged beside the prompt for writing
    to a cache; `seconds`: of sound; `picture`: ``quality/size``, as the provider reports or as the
    request asks; `uncharged`: micro-units that it cost beyond its reservation, which the account
    does not pay; `requests`: 0 if another job counts for the request."""

    account: str
    key: str
    job: str
    model: str
    provider: str
    provider_model: str
    endpoint: str
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    images: int = 0
    seconds: float = 0.0
    characters: int = 0
    cost: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    streamed: bool = False
    picture: str = ""
    stored: int = 0
    uncharged: int = 0
    requests: int = 1

    def within(self, most: int) -> Purchase:
        """This purchase with a cost of at most `most`; the rest is not charged."""
        cost = max(0, min(self.cost, most))
        return replace(self, cost=cost, uncharged=self.uncharged + max(0, self.cost - cost))


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """Names a reservation: the try number `take` of the holder number `turn` of `job`."""

    job: str
    turn: int
    take: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """The worst case (micro-units) of a job, for its holder number `turn`; later holders have
    higher numbers. `holder`: the process. `first`: nobody held the job before. `arrived`: when the
    job came, in Unix milliseconds, 0 if not known. `together`: all jobs of its request, if there
    are several."""

    account: str
    job: str
    turn: int
    holder: str
    amount: int
    first: bool = True
    arrived: int = 0
    together: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation that stands, opened by the entry `seq`. `paid`: an earlier holder was charged
    for this job; nothing is reserved, `seq` is 0, and the job is served without a charge. `since`:
    seconds of the ledger's clock."""

    what: Reservation
    name: Name
    seq: int
    since: float = 0.0
    paid: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """Micro-units that can be reserved, and micro-units in open reservations."""

    available: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal. `change`: micro-units added to the account; `balance`: the account
    after the entry; `amount`: of the reservation that the entry opens or closes; `at`: Unix seconds
    by the broker's clock; `note`: the text of a grant, or why a reservation was released."""

    account: str
    kind: EntryKind
    change: int
    balance: int
    seq: int
    at: float
    job: str = ""
    turn: int = 0
    take: int = 0
    holder: str = ""
    amount: int = 0
    note: str = ""
    usage: Purchase | None = None


class Stored(NamedTuple):
    """The broker's answer to an entry. `balance`: the counter after the entry; None if the broker
    had the entry before."""

    seq: int
    balance: int | None


class Last(NamedTuple):
    """The newest entry of an account; all 0 if there is none."""

    seq: int = 0
    balance: int = 0
