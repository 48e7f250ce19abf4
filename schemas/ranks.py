"""What an ingress tells a worker of the order among the engines of a model: `Op.RANK`.

It is said as long as the worker's card shows other ranks, so one that is lost comes again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgpack

from schemas import bounds
from schemas.jobs import CodecError
from schemas.nodes import LAST_RANK

MOST = 64
"""Ranks of one message, which has the names of models. The next one has the rest."""


class Rank(NamedTuple):
    """Jobs of `model` are to be asked for with `rank` for this engine of the worker."""

    engine: str
    model: str
    rank: int


def pack(ranks: Iterable[Rank]) -> bytes:
    return msgpack.packb(list(ranks))  # type: ignore[no-any-return]


def unpack(data: bytes) -> list[Rank]:
    """Raises CodecError."""
    try:
        rows = msgpack.unpackb(data)
        if type(rows) is list and len(rows) <= MOST:
            return [_rank(*row) for row in rows]
    except (ValueError, TypeError, msgpack.UnpackException):
        pass
    raise CodecError("not the ranks of engines")


def _rank(engine: object, model: object, rank: object) -> Rank:
    if not bounds.is_text(engine) or not bounds.is_text(model, bounds.MODEL):
        raise ValueError("a name is none")
    if not bounds.is_number(rank, LAST_RANK):
        raise ValueError("a rank is none")
    return Rank(engine, model, rank)
