"""What a joiner asks the hub on `join.<invite>`, and what it is answered: JSON. Pure.

The joiner is logged in by the invite's key, so that it can ask this and nothing else. It says the
public halves of the keys that it has made for itself; their seeds never leave it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import orjson

from schemas import bounds, nkeys, registry
from schemas.jobs import CodecError

T = TypeVar("T", "Ask", "Answer")

CLOCK = 300.0
"""Seconds by which the clocks of two machines may differ. Deadlines are times of the clock, and so
are the times of certificates."""
MOST_BYTES = 16 * 2**10

USED, EXPIRED, TAKEN, EVICTED, WRONG_CLOCK, BROKEN = (
    "used", "expired", "taken", "evicted", "clock", "broken",
)  # fmt: skip
"""Codes of refusals; of `TAKEN` and `EVICTED` it is the name."""
ANEW = "ask for a new one: 'headrace node invite' at the hub makes it"
"""What whoever has no good token is told to do."""


@dataclass(frozen=True, slots=True)
class Ask:
    """`nkey`: the joiner's public key; `second_nkey`: that of its other connection, "" for a worker
    (see `registry.Node`). `version`: its release; `clock`: Unix seconds, as it believes."""

    nkey: str
    clock: float
    second_nkey: str = ""
    version: str = ""

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Answer:
    """Who the joiner is from now on, or with a `code` why it is not: `message` says what to do.
    `clock`: the hub's."""

    clock: float
    name: str = ""
    role: str = ""
    code: str = ""
    message: str = ""

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


def unpack_ask(data: bytes) -> Ask:
    """Raises CodecError."""
    found = _unpacked(Ask, data)
    if not nkeys.is_public(found.nkey):
        raise CodecError("its key is no public key of a user")
    if found.second_nkey and not nkeys.is_public(found.second_nkey):
        raise CodecError("its second key is no public key of a user")
    return found


def unpack_answer(data: bytes) -> Answer:
    """Raises CodecError."""
    found = _unpacked(Answer, data)
    if not found.code and (registry.unfit_name(found.name) or found.role not in registry.ROLES):
        raise CodecError("it says neither who this node is, nor why it is none")
    return found


def wrong_clock(theirs: float, ours: float) -> str:
    """Why a joiner of this clock cannot join; "" if it can."""
    off = theirs - ours
    if abs(off) <= CLOCK:
        return ""
    way = "ahead of" if off > 0 else "behind"
    return (
        f"this machine's clock is {_span(abs(off))} {way} the hub's: set one of them right (as "
        "with 'timedatectl set-ntp true'), and use the token again"
    )


def _span(seconds: float) -> str:
    if seconds < 2 * 60 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.0f} days"


def _unpacked(kind: type[T], data: bytes) -> T:
    """Fields of later releases are passed over. Raises CodecError."""
    if len(data) > MOST_BYTES:
        raise CodecError(f"{len(data)} bytes are more than {MOST_BYTES}")
    try:
        said = orjson.loads(data)
        known = kind.__dataclass_fields__
        return kind(**{k: _fitting(known[k].type, said[k]) for k in known if k in said})
    except (ValueError, TypeError, LookupError) as fault:
        raise CodecError(f"not what is said to join: {fault}") from None


def _fitting(kind: Any, value: Any) -> Any:
    """`value` as a field of this type. Raises TypeError."""
    if kind == "float" and type(value) in (int, float) and 0 <= value <= bounds.WHOLE:
        return float(value)
    if kind == "str" and bounds.is_text(value, bounds.MESSAGE):
        return value
    raise TypeError(f"a field cannot be {str(value)[:64]!r}")
