"""Looks at a running Headrace from outside: cards, queues and processes, over the broker."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deploy import configure, home
from schemas import bus as buses
from schemas import nodes, subjects
from schemas.bus import Bus, BusError, Message, NotFound
from schemas.jetstream import streams
from schemas.jetstream.words import seconds
from schemas.jobs import CodecError
from schemas.nodes import Card
from schemas.settings import Nats, load

GATHER = 1.2
"""Seconds that cards are listened for: a worker sends one each second."""
STALE = 3.5
"""Seconds after which a worker that fell silent is no longer shown."""
REACH = 3.0
"""Seconds for the broker to let us in."""


class Unreachable(Exception):
    """Nothing runs, or the broker cannot be reached; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One model and lane. `depth` = `waiting` + `in_flight`, as the broker counts jobs; `oldest`:
    seconds that the first of the waiting jobs has waited, None without any; `retried`: jobs in
    flight that were delivered before; `served`: whether a consumer is there."""

    model: str
    lane: str
    depth: int
    waiting: int
    in_flight: int
    oldest: float | None
    retried: int
    served: bool


@dataclass(frozen=True, slots=True)
class IngressSeen:
    id: str
    address: str
    version: str


@dataclass(frozen=True, slots=True)
class Survey:
    """`dead`: dead letters by model; `cards`: workers heard of in the last seconds."""

    broker: str
    version: str
    ingresses: tuple[IngressSeen, ...]
    cards: tuple[Card, ...]
    queues: tuple[Queue, ...]
    dead: dict[str, int]


def login(data: Path, config: Path | None, nats: str | None) -> Nats:
    """How to reach the broker as its administrator: --nats, else the settings, else the broker that
    runs on `data`. Raises SettingsError, or Unreachable if there is none."""
    flags: dict[str, Any] = {"nats": configure.split_login(nats)} if nats else {}
    settings = load(config, flags)
    if "url" in settings.nats.model_fields_set:
        return settings.nats
    found = home.login(data, "admin")
    if found is None:
        raise Unreachable(f"nothing runs on {data}: start it with 'headrace up', or name --nats")
    return Nats.model_validate(found)


@contextlib.asynccontextmanager
async def connected(settings: Nats, name: str) -> AsyncIterator[Bus]:
    """A connection, without the patience of a server. Raises Unreachable."""
    inbox = f"{subjects.INBOX_ADMIN}.{secrets.token_hex(4)}"
    try:
        async with asyncio.timeout(REACH):
            bus = await buses.connect(settings, name, inbox)
    except TimeoutError:
        raise Unreachable(
            f"no broker answers at {settings.shown}, or it refuses this login: start one with "
            "'headrace up', or name --nats"
        ) from None
    except BusError as fault:
        raise Unreachable(f"{settings.shown}: {fault}") from None
    try:
        yield bus
    finally:
        await bus.close()


class Surveyor:
    """Listens to cards from `open` on; `look` asks for the rest."""

    def __init__(self, bus: Bus, url: str) -> None:
        self._bus = bus
        self._url = url
        self._cards: dict[str, tuple[float, Card]] = {}
        self._ingresses: dict[str, tuple[float, IngressSeen]] = {}
        self._inbox = f"{bus.inbox}.services"

    async def open(self) -> None:
        await self._bus.subscribe(subjects.ALL_CARDS, self._hear)
        await self._bus.subscribe(self._inbox, self._found)

    async def gather(self) -> None:
        """Long enough for everybody to have been heard of."""
        self._call()
        await asyncio.sleep(GATHER)

    async def look(self) -> Survey:
        """Raises BusError if the broker does not answer."""
        self._call()
        self._forget()
        return Survey(
            broker=self._url,
            version=version(self._bus),
            ingresses=_latest(self._ingresses, lambda seen: seen.address),
            cards=_latest(self._cards, lambda card: (card.node, card.holder)),
            queues=tuple(await queues(self._bus)),
            dead=await dead_letters(self._bus),
        )

    def _call(self) -> None:
        with contextlib.suppress(BusError):  # away: `look` says so
            self._bus.post("$SRV.INFO.headrace-ingress", reply=self._inbox)

    def _forget(self) -> None:
        limit = time.monotonic() - STALE
        self._cards = {k: v for k, v in self._cards.items() if v[0] > limit}
        self._ingresses = {k: v for k, v in self._ingresses.items() if v[0] > limit}

    def _hear(self, message: Message) -> None:
        with contextlib.suppress(CodecError):
            card = nodes.unpack(message.data)
            self._cards[card.holder] = time.monotonic(), card

    def _found(self, message: Message) -> None:
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            info = orjson.loads(message.data)
            about = info["metadata"]
            seen = IngressSeen(about["ingress"], about["address"], info["version"])
            self._ingresses[seen.id] = time.monotonic(), seen


def _latest(heard: dict[str, tuple[float, Any]], key: Any) -> tuple[Any, ...]:
    return tuple(sorted((each for _, each in heard.values()), key=key))


async def queues(bus: Bus) -> list[Queue]:
    """Every model and lane that has jobs or a consumer. Raises BusError."""
    depths, now = await _counts(bus, subjects.JOBS_STREAM, subjects.ALL_JOBS)
    found = []
    for info in await consumers(bus):
        config, subject = info["config"], str(info["config"].get("filter_subject", ""))
        if subject.count(".") != 2:
            continue  # somebody else's
        model = (config.get("metadata") or {}).get("headrace.model")
        named, lane = subjects.parse_jobs(subject)
        waiting = int(info.get("num_pending", 0))
        found.append(
            Queue(
                model or named,
                lane,
                depths.pop(subject, 0),
                waiting,
                int(info.get("num_ack_pending", 0)),
                await _oldest(bus, subject, info, now) if waiting else None,
                int(info.get("num_redelivered", 0)),
                True,
            )
        )
    for subject, depth in depths.items():
        model, lane = subjects.parse_jobs(subject)
        oldest = await _age(bus, subject, 1, now)
        found.append(Queue(model, lane, depth, depth, 0, oldest, 0, False))
    return sorted(found, key=lambda queue: (queue.model, queue.lane))


async def consumers(bus: Bus) -> list[dict[str, Any]]:
    """What the broker says of each consumer of the jobs; none without a stream."""
    try:
        return await streams.consumers(bus, subjects.JOBS_STREAM)
    except NotFound:
        return []


async def dead_letters(bus: Bus) -> dict[str, int]:
    """How many are kept, by model."""
    counts = await _counts(bus, subjects.DEAD_STREAM, subjects.ALL_DEAD)
    return {
        subjects.decode(subject.partition(".")[2]): count for subject, count in counts[0].items()
    }


async def _counts(bus: Bus, stream: str, wanted: str) -> tuple[dict[str, int], float]:
    """Messages by subject, and the broker's time; none without a stream."""
    try:
        return await streams.counts(bus, stream, wanted)
    except NotFound:
        return {}, time.time()


async def _oldest(bus: Bus, subject: str, info: dict[str, Any], now: float) -> float | None:
    """The first job after the last delivered one is the first that waits."""
    return await _age(bus, subject, int(info["delivered"]["stream_seq"]) + 1, now)


async def _age(bus: Bus, subject: str, since: int, now: float) -> float | None:
    try:
        found = await streams.stored(bus, subjects.JOBS_STREAM, seq=since, next_by_subj=subject)
    except NotFound:
        return None
    return max(0.0, now - seconds(found["time"]))


def version(bus: Bus) -> str:
    """``2.15.1``; the client dresses it up."""
    found = re.search(r"\d+\.\d+\.\d+", bus.server_version)
    return found[0] if found else bus.server_version
