"""What is in the journal, and what is asked of it and told.

Money is whole micro-units of the currency (1 USD = 1,000,000) everywhere but in what people read
and write.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MICRO = 1_000_000


class EntryKind(StrEnum):
    GRANT = "grant"
    RESERVE = "reserve"
    CHARGE = "charge"
    """Closes a reservation: what it kept beyond the cost goes back."""
    RELEASE = "release"
    """Closes a reservation: all of it goes back."""
    OTHER = "other"
    """A change that somebody made past Headrace: it counts, and stands for nothing."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What a provider was used for, and what it cost (micro-units). `prompt` includes `cached`;
    `stored`: quarters of a token that are paid beside it, for writing it to a cache;
    `seconds`: of sound; `picture`: ``quality/size``, as the provider says or as was asked."""

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


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A reservation: of the holder `turn` of `job`, its `take`-th try to get the money."""

    job: str
    turn: int
    take: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """The worst case (micro-units) of a job, for its holder number `turn`: each holder's is higher
    than those before. `holder`: the process. `first`: nobody held the job before. `arrived`:
    milliseconds of the epoch at which the job came, 0 if not known. `together`: the jobs of its
    request, if they are several."""

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
    """A reservation that stands. `paid`: an earlier holder was charged for this job already: serve
    it and charge nothing; then nothing is reserved, and `seq` is 0. `since`: monotonic and Unix
    seconds."""

    what: Reservation
    name: Name
    seq: int
    since: tuple[float, float] = (0.0, 0.0)
    paid: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """Micro-units: to be reserved, and in open reservations."""

    available: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal. `change`: what it did to the account; `balance`: the sum after it;
    `amount`: of the reservation that it opens or closes; `at`: Unix seconds, by the broker.
    `note`: a grant's, or why a reservation was released."""

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
    """The broker's answer to an entry. `balance`: the counter after it; None if it was there
    before."""

    seq: int
    balance: int | None


class Last(NamedTuple):
    """The newest entry of an account; all 0 without any."""

    seq: int = 0
    balance: int = 0
