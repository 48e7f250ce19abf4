"""What workers served, as ingresses count it: rows of sums, a few seconds' worth in each message of
the stream ``USAGE``. What providers served is in the books of credits, entry by entry."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from schemas import subjects, topology
from schemas.bus import Bus, BusError, Message
from schemas.jobs import CodecError

log = structlog.get_logger("usage")

PATIENCE = 5.0
"""Seconds without a message after which a reading has failed."""
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


async def read(bus: Bus, since: float) -> list[Served]:
    """All rows that were handed over `since` (Unix seconds). What is none is passed over, as it
    would be there for a year. Raises BusError."""
    heard: asyncio.Queue[Message] = asyncio.Queue()
    name, inbox = f"read-{secrets.token_hex(6)}", f"{bus.inbox}.u.{secrets.token_hex(6)}"
    subscription = await bus.subscribe(inbox, heard.put_nowait)
    stream = subjects.USAGE_STREAM
    try:
        made = await bus.api(f"CONSUMER.CREATE.{stream}.{name}", _reader(name, since))
        left: int = made["num_pending"]
        request = {"batch": left, "no_wait": True}
        if left:
            bus.post(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", orjson.dumps(request), inbox)
        found: list[Served] = []
        for _ in range(left):
            message = await _next(heard)
            try:
                found += unpack(message.data)
            except CodecError as fault:
                log.warning("usage.undecodable", subject=message.subject, error=str(fault))
        return found
    finally:
        await subscription.stop()


def _reader(name: str, since: float) -> dict[str, Any]:
    start = datetime.fromtimestamp(max(0.0, since), UTC).isoformat()
    config = {
        "name": name,
        "deliver_policy": "by_start_time",
        "opt_start_time": start,
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 10 * topology.NS,
    }
    return {"stream_name": subjects.USAGE_STREAM, "config": config}


async def _next(heard: asyncio.Queue[Message]) -> Message:
    try:
        async with asyncio.timeout(PATIENCE):
            message = await heard.get()
    except TimeoutError:
        raise BusError("the broker fell silent while usage was read") from None
    if message.headers and "Status" in message.headers:
        raise BusError(f"usage cannot be read: {message.headers.get('Description', 'refused')}")
    return message
