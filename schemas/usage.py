"""Usage of workers, counted by ingresses: each message of the stream ``USAGE`` has the sums of a
minute. Usage of providers is in the journal of credits, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from schemas.bus import Message
from schemas.jobs import CodecError

log = structlog.get_logger("usage")

REPLACING = {"Nats-Rollup": "sub"}
"""Headers of a message that replaces all others of its subject."""
_FIELDS = 10  # of `Served`: a newer ingress may send more
_NAMES = 5  # the first fields, which are texts


@dataclass(frozen=True, slots=True)
class Served:
    """Sums for one day (UTC, ``2026-11-22``), account, key, model (as clients named it) and node.
    `seconds`: time of engines."""

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


SUMMED = ("prompt", "completion", "cached", "images", "seconds", "characters", "cost")
GROUPS = ("day", "key", "model", "provider", "account")
"""Fields by which `summed` can group."""


def record(row: Served) -> dict[str, Any]:
    """`row` in the form of a provider's record, for `summed`."""
    return {
        "day": row.day,
        "account": row.account,
        "key": row.key,
        "model": row.model,
        "provider": f"node:{row.node}",
        "requests": row.requests,
        "prompt": row.prompt,
        "completion": row.completion,
        "cached": row.cached,
    }


def summed(records: Iterable[Mapping[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each combination of the fields `by` (of `GROUPS`). A record without `requests`
    counts as one request; a record without `day` belongs to the day of its `ended_ms`."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in records:
        key = tuple(each[name] if name in each else _day(each["ended_ms"]) for name in by)
        row = rows.get(key)
        if row is None:
            empty = dict.fromkeys(("requests", *SUMMED), 0)
            row = rows[key] = {**dict(zip(by, key, strict=True)), **empty}
        row["requests"] += each.get("requests", 1)
        for name in SUMMED:
            row[name] += each.get(name, 0)
    return [rows[key] for key in sorted(rows)]


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def pack(rows: Iterable[Served]) -> bytes:
    return orjson.dumps([[getattr(row, name) for name in Served.__slots__] for row in rows])


def unpack(data: bytes) -> list[Served]:
    """Raises CodecError."""
    try:
        rows: Any = orjson.loads(data)
        return [_row(row) for row in rows]
    except (orjson.JSONDecodeError, TypeError) as fault:
        raise CodecError(f"no rows of usage: {fault}") from None


def _row(fields: Any) -> Served:
    """Raises TypeError."""
    row = Served(*fields[:_FIELDS])  # fails if there are too few
    names, sums = fields[:_NAMES], fields[_NAMES:_FIELDS]
    if not all(isinstance(n, str) for n in names) or any(type(n) not in (int, float) for n in sums):
        raise TypeError("a field has the wrong type")
    return row


def served(messages: Iterable[Message]) -> list[Served]:
    """The rows of all messages. One that replaces another in the stream replaces it here, too: both
    may come if the stream is written while it is read."""
    found, windows = list[Served](), dict[str, list[Served]]()
    for message in messages:
        if REPLACING.keys() <= (message.headers or {}).keys():
            windows[message.subject] = rows(message)
        else:
            found += rows(message)
    return found + [row for window in windows.values() for row in window]


def rows(message: Message) -> list[Served]:
    """The rows of a message of the stream. A broken message is skipped, because it stays in the
    stream for a year."""
    try:
        return unpack(message.data)
    except CodecError as fault:
        log.warning("usage.undecodable", subject=message.subject, error=str(fault))
        return []
