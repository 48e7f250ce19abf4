"""Who waits in the queues, as each ingress knows of its own jobs: `subjects.ASK_QUEUES` asks.

The broker cannot tell: jobs of different accounts exchange their messages when a slot is given out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from schemas import bounds, subjects
from schemas.jobs import CodecError


@dataclass(frozen=True, slots=True)
class Waiting:
    """`waiting` jobs of one account for one model and lane; the `oldest` came so many seconds
    ago."""

    model: str
    lane: str
    account: str
    waiting: int
    oldest: float


def pack(ingress: str, rows: Iterable[Waiting]) -> bytes:
    return orjson.dumps({"ingress": ingress, "waiting": list(rows)})


def unpack(data: bytes) -> tuple[str, tuple[Waiting, ...]]:
    """The ingress, and its rows. Raises CodecError."""
    try:
        found = orjson.loads(data)
        rows = tuple(_row(**each) for each in found["waiting"])
        if not bounds.is_token(found["ingress"], bounds.NAME):
            raise TypeError("its ingress has no name")
        return found["ingress"], rows
    except (orjson.JSONDecodeError, LookupError, TypeError) as fault:
        raise CodecError(f"not an answer about queues: {fault}") from None


def _row(model: Any, lane: Any, account: Any, waiting: Any, oldest: Any) -> Waiting:
    """Raises TypeError."""
    texts = bounds.are_texts((model, lane, account), bounds.MODEL)
    times = type(oldest) in (int, float) and 0 <= oldest <= bounds.WHOLE
    if not texts or not times or not bounds.is_number(waiting):
        raise TypeError("a field of a row has the wrong type, or is out of bounds")
    return Waiting(model, lane, account, waiting, float(oldest))


def summed(rows: Iterable[Waiting]) -> list[Waiting]:
    """One row for each model, lane and account, from those of several ingresses."""
    found: dict[tuple[str, str, str], Waiting] = {}
    for row in rows:
        key = row.model, row.lane, row.account
        before = found.get(key) or Waiting(*key, 0, 0.0)
        oldest = max(before.oldest, row.oldest)
        found[key] = Waiting(*key, before.waiting + row.waiting, oldest)
    return sorted(found.values(), key=_place)


def _place(row: Waiting) -> tuple[str, bool, int, str]:
    """By model and lane, who has most first."""
    return row.model, row.lane != subjects.INTERACTIVE, -row.waiting, row.account
