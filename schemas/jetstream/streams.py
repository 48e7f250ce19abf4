"""Creates, updates and inspects streams and consumers. Every function raises BusError if the
broker is away or refuses."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime
from typing import Any

from schemas.bus import ApiError, Bus, BusError, NotFound
from schemas.jetstream.words import seconds
from schemas.topology import NS

AFTER = "Nats-Expected-Last-Subject-Sequence"
"""A header: the message is taken if this is the last sequence of its subject; 0: there is none."""
MOVED_ON = 10071
"""err_code of a message for which it is another."""
FORGOTTEN = 30
"""Seconds after which the broker drops an unused reader."""


async def ensure(bus: Bus, wanted: list[dict[str, Any]]) -> list[str]:
    """Create the streams that are missing and update those that differ. Returns the names of those
    that were missing."""
    missing = []
    for config in wanted:
        name = config["name"]
        try:
            have = (await info(bus, name))["config"]
        except NotFound:
            await bus.api(f"STREAM.CREATE.{name}", config)
            missing.append(name)
            continue
        if any(have.get(key) != value for key, value in config.items()):
            # What we do not set stays as the broker, or whoever runs it, has it.
            await bus.api(f"STREAM.UPDATE.{name}", {**have, **config})
    return missing


async def ensure_consumer(bus: Bus, stream: str, config: dict[str, Any]) -> None:
    """Create or update a consumer. A second call with the same `config` changes nothing."""
    name = config["durable_name"]
    # Without the filter in the subject: in a publish, the broker refuses a wildcard (measured).
    await bus.api(
        f"CONSUMER.CREATE.{stream}.{name}",
        {"stream_name": stream, "config": {**config, "name": name}},
    )


async def info(bus: Bus, stream: str, **asked: Any) -> dict[str, Any]:
    """The broker's description of a stream. Raises NotFound if there is no such stream."""
    return await bus.api(f"STREAM.INFO.{stream}", asked or None)


async def counts(bus: Bus, stream: str, subject: str) -> tuple[dict[str, int], float]:
    """How many messages each subject that matches `subject` has, and the broker's time. Raises
    NotFound."""
    found: dict[str, int] = {}
    while True:  # the broker answers in pages
        page = await info(bus, stream, subjects_filter=subject, offset=len(found))
        more = page["state"].get("subjects") or {}
        found |= more
        if not more or len(found) >= int(page.get("total", 0)):
            return found, seconds(page["ts"])


async def consumers(bus: Bus, stream: str) -> list[dict[str, Any]]:
    """The broker's description of each consumer of a stream. Raises NotFound."""
    found: list[dict[str, Any]] = []
    while True:
        page = await bus.api(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        more = page.get("consumers") or []
        found += more
        if not more or len(found) >= int(page["total"]):
            return found


async def consumer_names(bus: Bus, stream: str) -> list[str]:
    """The names of a stream's consumers. Raises NotFound."""
    found: list[str] = []
    while True:
        page = await bus.api(f"CONSUMER.NAMES.{stream}", {"offset": len(found)})
        more = page.get("consumers") or []
        found += more
        if not more or len(found) >= int(page["total"]):
            return found


async def consumer(bus: Bus, stream: str, name: str, timeout: float) -> dict[str, Any]:
    """The broker's description of one consumer. Raises NotFound."""
    return await bus.api(f"CONSUMER.INFO.{stream}.{name}", timeout=timeout)


async def stored(bus: Bus, stream: str, **wanted: Any) -> dict[str, Any]:
    """The message with this ``seq``, the last one of the subject ``last_by_subj``, or the first one
    of ``next_by_subj`` from ``seq`` on. Raises NotFound if there is no such message (any more)."""
    found: dict[str, Any] = (await bus.api(f"STREAM.MSG.GET.{stream}", wanted))["message"]
    return found


async def delete(bus: Bus, stream: str, sequence: int) -> None:
    """Remove a message from a stream. Its bytes on disk are not overwritten, which is quicker."""
    await bus.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})


async def create(bus: Bus, subject: str, data: bytes) -> bool:
    """Write the first message of a subject. False if there is one already."""
    try:
        await bus.store(subject, {AFTER: "0"}, data)
    except ApiError as fault:
        if fault.code == MOVED_ON:
            return False
        raise
    return True


async def newest(bus: Bus, stream: str, subject: str, timeout: float) -> tuple[int, bytes] | None:
    """Sequence and data of the last message of `subject`; any replica may answer."""
    found = await bus.request(f"{direct_subject(stream)}.{subject}", timeout=timeout)
    place = (found.headers or {}).get("Nats-Sequence")  # not there if there is no such message
    return (int(place), found.data) if place else None


def direct_subject(stream: str) -> str:
    """The subject on which a client asks for messages as they are stored."""
    return f"$JS.API.DIRECT.GET.{stream}"


async def delete_consumer(bus: Bus, stream: str, name: str) -> None:
    """Raises NotFound."""
    await bus.api(f"CONSUMER.DELETE.{stream}.{name}")


def pull_subject(stream: str, consumer: str) -> str:
    """The subject on which a client asks for messages of a consumer."""
    return f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"


async def reader(
    bus: Bus, stream: str, since: float, after: int, more: dict[str, Any]
) -> dict[str, Any]:
    """Create a consumer that the broker drops when it is unused; returns the broker's answer."""
    name = f"read-{secrets.token_hex(8)}"
    config = {
        "name": name,
        **_start(since, after),
        "ack_policy": "none",
        "inactive_threshold": FORGOTTEN * NS,
        "mem_storage": True,  # whoever reads makes a new one after a restart of the broker
        "num_replicas": 1,
        **more,
    }
    request = {"stream_name": stream, "config": config}
    return {"name": name, **await bus.api(f"CONSUMER.CREATE.{stream}.{name}", request)}


def forget(bus: Bus, stream: str, name: str) -> None:
    """Have the broker drop a reader that is used no more: a stream has room for a thousand."""
    with contextlib.suppress(BusError):  # it drops it by itself later
        bus.post(f"$JS.API.CONSUMER.DELETE.{stream}.{name}")


def _start(since: float, after: int) -> dict[str, Any]:
    if after:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
    if since <= 0:
        return {"deliver_policy": "all"}
    moment = datetime.fromtimestamp(since, UTC).isoformat()
    return {"deliver_policy": "by_start_time", "opt_start_time": moment}
