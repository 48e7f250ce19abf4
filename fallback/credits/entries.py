"""What is in the journal: each message of the stream ``CREDITS`` is one entry.

The broker adds ``Nats-Incr`` to the account's counter and stores the sum as the body
(``{"val": "70"}``); the header `HEADER` says in JSON what the change is for. Money is whole
micro-units of the currency (1 USD = 1,000,000) everywhere but in what people read and write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

import orjson

from schemas import subjects
from schemas.bus import Message

HEADER = "Headrace-Entry"
INCREMENT = "Nats-Incr"
ID = "Nats-Msg-Id"
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

    @property
    def opening(self) -> str:
        """The message id of the entry that reserves."""
        return f"{self.job}:{self.turn}.{self.take}:reserve"

    @property
    def closing(self) -> str:
        """The message id of charge and release alike, so that the broker takes one of them."""
        return f"{self.job}:{self.turn}.{self.take}:close"


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

    @property
    def name(self) -> Name:
        return Name(self.job, self.turn, self.take)


def headers(
    kind: EntryKind, change: int, id: str, purchase: Purchase | None = None, **about: str | int
) -> dict[str, str]:
    """Those of an entry; `about` holds fields of `Entry`."""
    said: dict[str, Any] = {"kind": kind, **about}
    if purchase is not None:
        said["usage"] = asdict(purchase)
    # ASCII without line breaks, whatever the texts hold: nothing else fits into a header.
    text = json.dumps(said, separators=(",", ":"))
    return {INCREMENT: f"{change:+d}", ID: id, HEADER: text}


_ABOUT = ("job", "turn", "take", "holder", "amount", "note")
_BOUGHT = frozenset(field.name for field in fields(Purchase))


def parse(message: Message) -> Entry:
    """The entry that a consumer of the stream delivered; one that is not ours is `EntryKind.OTHER`.

    Raises ValueError if it is no entry of a counter at all.
    """
    found = message.headers or {}
    try:
        seq, ns = subjects.place_of(message.reply)
        change, balance = int(found[INCREMENT]), int(orjson.loads(message.data)["val"])
        account = subjects.account_of(message.subject)
    except (KeyError, IndexError, TypeError) as fault:
        raise ValueError(f"no entry of a counter: {message.subject}: {fault!r}") from None
    return _entry(found.get(HEADER, ""), account, change, balance, seq, ns / 1e9)


def _entry(text: str, account: str, change: int, balance: int, seq: int, at: float) -> Entry:
    try:
        said: Mapping[str, Any] = orjson.loads(text)
        kind = EntryKind(said["kind"])
        about = {name: said[name] for name in _ABOUT if name in said}
        usage = said.get("usage")
        bought = Purchase(**{k: v for k, v in usage.items() if k in _BOUGHT}) if usage else None
        return Entry(account, kind, change, balance, seq, at, usage=bought, **about)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Entry(account, EntryKind.OTHER, change, balance, seq, at)
