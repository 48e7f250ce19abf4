"""What workers served, as ingresses count it: rows of sums, a few seconds' worth in each message of
the stream ``USAGE``. What providers served is in the journal of credits, entry by entry."""

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

_FIELDS = 10
_NAMES = 5


@dataclass(frozen=True, slots=True)
class Served:
    """Sums of one day (UTC, ``2026-11-22``), account, key, model (as clients named it) and node.
    `seconds`: of the engines."""

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
"""What rows may be told apart by."""


def record(row: Served) -> dict[str, Any]:
    """A row beside the records of what providers served, as `summed` takes them."""
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
    """One row for each value of `by` (some of `GROUPS`). A record that does not say how many
    `requests` it stands for is one, and its day is that of its `ended_ms`."""
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
    row = Served(*fields[:_FIELDS])
    names, sums = fields[:_NAMES], fields[_NAMES:_FIELDS]
    if not all(isinstance(n, str) for n in names) or any(type(n) not in (int, float) for n in sums):
        raise TypeError("a field has the wrong type")
    return row


def rows(message: Message) -> list[Served]:
    """Those of a message of the stream. One that has none is passed over, as it would be there for
    a year."""
    try:
        return unpack(message.data)
    except CodecError as fault:
        log.warning("usage.undecodable", subject=message.subject, error=str(fault))
        return []
