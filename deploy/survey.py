"""Looks at a running Headrace from outside: cards, queues and processes, over the broker."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from deploy.configure import Unreachable
from schemas import bus as buses
from schemas import nodes, subjects
from schemas.bus import Bus, BusError, Message, NotFound
from schemas.jetstream import streams
from schemas.jetstream.words import seconds
from schemas.jobs import CodecError
from schemas.nodes import Card
from schemas.settings import Nats

T = TypeVar("T")
Heard = dict[str, tuple[float, T]]
"""By id: (monotonic seconds of the last message, its content)."""

GATHER = 1.2
"""Seconds to listen for cards: a worker sends one each second."""
STALE = 3.5
"""Seconds after which a silent worker is no longer shown: three of its cards are missing."""
REACH = 3.0
"""Seconds for the broker to accept our connection."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One model and lane. `depth` = `waiting` + `in_flight`, as the broker counts jobs; `oldest`:
    seconds that the first waiting job has waited, None if no job waits; `retried`: jobs in flight
    that were delivered before; `served`: whether a consumer is there."""

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
    """`dead`: dead letters by model; `cards`: of workers that sent one in the last seconds."""

    broker: str
    version: str
    ingresses: tuple[IngressSeen, ...]
    cards: tuple[Card, ...]
    queues: tuple[Queue, ...]
    dead: dict[str, int]


@contextlib.asynccontextmanager
async def connected(settings: Nats, name: str) -> AsyncIterator[Bus]:
    """A connection. Unlike servers, it does not wait for a broker. Raises Unreachable."""
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
    """Listens to cards from `gather` on; `look` asks for the rest."""

    def __init__(self, bus: Bus, url: str) -> None:
        self._bus = bus
        self._url = url
        self._cards: Heard[Card] = {}
        self._ingresses: Heard[IngressSeen] = {}
        self._inbox = f"{bus.inbox}.services"

    async def gather(self) -> None:
        """Listen until every live process has sent its card."""
        await self._bus.subscribe(subjects.ALL_CARDS, self._hear)
        await self._bus.subscribe(self._inbox, self._found)
        self._call()
        await asyncio.sleep(GATHER)

    async def look(self) -> Survey:
        """Raises BusError if the broker does not answer."""
        self._call()
        return Survey(
            broker=self._url,
            version=version(self._bus),
            ingresses=tuple(sorted(_fresh(self._ingresses), key=lambda seen: seen.address)),
            cards=tuple(sorted(_fresh(self._cards), key=lambda card: (card.node, card.holder))),
            queues=tuple(await queues(self._bus)),
            dead=await dead_letters(self._bus),
        )

    def _call(self) -> None:
        with contextlib.suppress(BusError):  # if the broker is away, `look` says so
            # An ingress can be found as a micro service (`Bus.serve`).
            self._bus.post("$SRV.INFO.headrace-ingress", reply=self._inbox)

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


def _fresh(heard: Heard[T]) -> list[T]:
    """Those that sent something in the last seconds."""
    limit = time.monotonic() - STALE
    return [each for at, each in heard.values() if at > limit]


async def queues(bus: Bus) -> list[Queue]:
    """Every model and lane that has jobs or a consumer. Raises BusError."""
    depths, now = await _counts(bus, subjects.JOBS_STREAM, subjects.ALL_JOBS)
    found = []
    for info in await consumers(bus):
        subject = str(info["config"].get("filter_subject", ""))
        if subject.count(".") == 2:  # other consumers are not Headrace's
            found.append(await _queue(bus, subject, info, depths.pop(subject, 0), now))
    for subject, depth in depths.items():  # there is no consumer: nobody serves the model
        model, lane = subjects.parse_jobs(subject)
        oldest = await _age(bus, subject, 1, now)
        found.append(Queue(model, lane, depth, depth, 0, oldest, 0, False))
    return sorted(found, key=lambda queue: (queue.model, queue.lane))


async def _queue(bus: Bus, subject: str, info: dict[str, Any], depth: int, now: float) -> Queue:
    """A queue that has a consumer."""
    model, lane = subjects.parse_jobs(subject)
    waiting = info.get("num_pending", 0)
    # Jobs are delivered in order: the first waiting job is the next after the last delivered one.
    oldest = await _age(bus, subject, info["delivered"]["stream_seq"] + 1, now) if waiting else None
    return Queue(
        (info["config"].get("metadata") or {}).get("headrace.model") or model,
        lane,
        depth,
        waiting,
        info.get("num_ack_pending", 0),
        oldest,
        info.get("num_redelivered", 0),
        served=True,
    )


async def consumers(bus: Bus) -> list[dict[str, Any]]:
    """What the broker says of each consumer of the jobs; none without a stream."""
    try:
        return await streams.consumers(bus, subjects.JOBS_STREAM)
    except NotFound:
        return []


async def dead_letters(bus: Bus) -> dict[str, int]:
    """The number of dead letters, by model."""
    found, _ = await _counts(bus, subjects.DEAD_STREAM, subjects.ALL_DEAD)
    return {subjects.decode(name.partition(".")[2]): count for name, count in found.items()}


async def _counts(bus: Bus, stream: str, wanted: str) -> tuple[dict[str, int], float]:
    """Messages by subject, and the broker's time; none without a stream."""
    try:
        return await streams.counts(bus, stream, wanted)
    except NotFound:
        return {}, time.time()


async def _age(bus: Bus, subject: str, since: int, now: float) -> float | None:
    """Seconds since the first job of `subject` at or behind the place `since` in the stream."""
    try:
        found = await streams.stored(bus, subjects.JOBS_STREAM, seq=since, next_by_subj=subject)
    except NotFound:
        return None
    return max(0.0, now - seconds(found["time"]))


def version(bus: Bus) -> str:
    """The server's version as ``2.15.1``; the client wraps it in other text."""
    found = re.search(r"\d+\.\d+\.\d+", bus.server_version)
    return found[0] if found else bus.server_version
