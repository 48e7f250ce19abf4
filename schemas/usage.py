"""Usage of workers, counted by ingresses: each message of the stream ``USAGE`` has the sums of a
minute. Usage of providers is in the journal of credits, entry by entry; `schemas.tally` sums up
both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from schemas import bounds, subjects
from schemas.bus import Message
from schemas.jobs import CodecError

log = structlog.get_logger("usage")

REPLACING = {"Nats-Rollup": "sub"}
"""Headers of a message that replaces all others of its subject."""
_LEAST = 10  # fields of a row as releases before wrote it
_FIELDS = 15  # of `Served`: a newer ingress may send more
_NAMES = 5  # the first fields, which are texts
_TEXT, _NUMBERS = {str}, {int, float}


@dataclass(frozen=True, slots=True)
class Served:
    """Sums for one day (UTC, ``2026-11-22``), account, key, model (as clients named it) and node.

    `requests` had a whole answer; `failed` had a worker and no whole answer, as it failed, was
    refused by the engine, or its client left. `seconds`: for which slots were held, by all of them
    and by workers that lost a job. `audio`: seconds of recordings that were heard. `characters`
    were spoken. `hits`: requests whose answer was there already; their `node` is ""."""

    day: str
    account: str
    key: str
    model: str
    node: str
    requests: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    seconds: float = 0.0
    failed: int = 0
    images: int = 0
    characters: int = 0
    audio: float = 0.0
    hits: int = 0


def pack(rows: Iterable[Served]) -> bytes:
    return orjson.dumps([[getattr(row, name) for name in Served.__slots__] for row in rows])


def unpack(data: bytes) -> list[Served]:
    """Raises CodecError."""
    try:
        rows: Any = orjson.loads(data)
        return [_row(row) for row in rows]
    except (orjson.JSONDecodeError, TypeError, LookupError) as fault:
        raise CodecError(f"no rows of usage: {fault}") from None


def _row(fields: Any) -> Served:
    """Raises TypeError."""
    names, sums = fields[:_NAMES], fields[_NAMES:_FIELDS]
    if len(fields) < _LEAST or {*map(type, names)} != _TEXT or not {*map(type, sums)} <= _NUMBERS:
        raise TypeError("a field is missing, or has the wrong type")
    if max(map(len, names)) > bounds.MODEL or not 0 <= min(sums) <= max(sums) <= bounds.WHOLE:
        raise TypeError("a name or a number is out of bounds")
    return Served(*names, *sums)


class Windows:
    """Gives each message of the stream once it counts: one that replaces another does so here, too,
    because both may come if the stream is written while it is read."""

    def __init__(self) -> None:
        self._newest: dict[str, Message] = {}
        """Of each ingress; another may replace it."""

    def take(self, message: Message) -> Message | None:
        """What counts now that `message` came: this one, one before it, or none yet."""
        if not REPLACING.keys() <= (message.headers or {}).keys():
            return message  # as ingresses of early releases sent it
        ingress = subjects.counting(message.subject)
        before = self._newest.get(ingress)
        self._newest[ingress] = message
        return None if before is None or before.subject == message.subject else before

    def rest(self) -> Iterable[Message]:
        """What counts, too, once all have come."""
        return self._newest.values()


def rows(message: Message) -> list[Served]:
    """The rows of a message of the stream. A broken message is skipped, because it stays in the
    stream for a year."""
    try:
        return unpack(message.data)
    except CodecError as fault:
        log.warning("usage.undecodable", subject=message.subject, error=str(fault))
        return []
