"""Looks at a running Headrace from outside: cards, queues and processes, over the broker."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TypeVar

import orjson

from deploy.configure import Unreachable
from deploy.nodes import listing
from deploy.nodes.listing import Row
from deploy.nodes.roster import Roster
from schemas import bus as buses
from schemas import nodes, subjects, waiting
from schemas.bus import Bus, BusError, Message
from schemas.jetstream import queues, records
from schemas.jetstream.queues import Queue
from schemas.jobs import CodecError
from schemas.nodes import Card
from schemas.settings import Nats
from schemas.waiting import Waiting, summed

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
class IngressSeen:
    """`group`: that of several processes at one address; `process`: which of them it is, as
    ``2/4``. Both are "" for one that is alone."""

    id: str
    address: str
    version: str
    group: str = ""
    process: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """`dead`: dead letters by model; `cards`: of workers that sent one in the last seconds;
    `waiting`: who waits, as the ingresses tell; `absent`: nodes that get no jobs, as they are away
    or were drained."""

    broker: str
    version: str
    ingresses: tuple[IngressSeen, ...]
    cards: tuple[Card, ...]
    queues: tuple[Queue, ...]
    dead: dict[str, int]
    waiting: tuple[Waiting, ...] = ()
    absent: tuple[Row, ...] = ()


@contextlib.asynccontextmanager
async def connected(
    settings: Nats, name: str, inboxes: str = subjects.INBOX_ADMIN
) -> AsyncIterator[Bus]:
    """A connection. Unlike servers, it does not wait for a broker. `inboxes`: where those of the
    login begin. Raises Unreachable."""
    inbox = f"{inboxes}.{secrets.token_hex(4)}"
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
        self._waiting: Heard[tuple[Waiting, ...]] = {}
        self._inbox = f"{bus.inbox}.services"
        self._told = f"{bus.inbox}.queues"

    async def gather(self) -> None:
        """Listen until every live process has sent its card."""
        await self._bus.subscribe(subjects.ALL_CARDS, self._hear)
        await self._bus.subscribe(self._inbox, self._found)
        await self._bus.subscribe(self._told, self._hear_queues)
        self._call()
        await asyncio.sleep(GATHER)

    async def look(self) -> Survey:
        """Raises BusError if the broker does not answer."""
        self._call()
        rows = summed(row for rows in _fresh(self._waiting) for row in rows)
        cards = _fresh(self._cards)
        return Survey(
            broker=self._url,
            version=version(self._bus),
            ingresses=tuple(sorted(_fresh(self._ingresses), key=lambda seen: seen.address)),
            cards=tuple(sorted(cards, key=lambda card: (card.node, card.holder))),
            queues=tuple(queues.counted(await queues.read(self._bus), rows)),
            dead=await dead_letters(self._bus),
            waiting=tuple(rows),
            absent=tuple(await _absent(self._bus, cards)),
        )

    def _call(self) -> None:
        with contextlib.suppress(BusError):  # if the broker is away, `look` says so
            # An ingress can be found as a micro service (`Bus.serve`).
            self._bus.post("$SRV.INFO.headrace-ingress", reply=self._inbox)
            self._bus.post(subjects.ASK_QUEUES, reply=self._told)

    def _hear(self, message: Message) -> None:
        with contextlib.suppress(CodecError):
            card = nodes.heard(message.subject, message.data, partly=True)
            self._cards[card.holder] = time.monotonic(), card

    def _hear_queues(self, message: Message) -> None:
        with contextlib.suppress(CodecError):
            ingress, rows = waiting.unpack(message.data)
            self._waiting[ingress] = time.monotonic(), rows

    def _found(self, message: Message) -> None:
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            info = orjson.loads(message.data)
            about = info["metadata"]
            several = about.get("group", ""), about.get("process", "")
            seen = IngressSeen(about["ingress"], about["address"], info["version"], *several)
            self._ingresses[seen.id] = time.monotonic(), seen


def addresses(ingresses: Iterable[IngressSeen]) -> list[str]:
    """Where clients ask: one line for all processes that are there together, with how many are."""
    groups: dict[str, list[IngressSeen]] = {}
    for seen in ingresses:
        groups.setdefault(seen.group or seen.id, []).append(seen)
    return [f"http://{group[0].address}{_several(group)}" for group in groups.values()]


def _several(group: list[IngressSeen]) -> str:
    here, of = len(group), group[0].process.rpartition("/")[2]
    if not of:
        return ""
    return f" ({here} processes)" if of == str(here) else f" ({here} of {of} processes)"


async def _absent(bus: Bus, seen: list[Card]) -> list[Row]:
    try:
        last = await records.read(bus, subjects.NODES_STREAM)
    except BusError:  # no node has joined, or this login may not know which
        return []
    roster = Roster()
    roster.read(last)
    known = [node for _, node in roster.nodes.values()]
    return [row for row in listing.rows(known, (), seen, time.time()) if row.gets_nothing]


async def cards(bus: Bus) -> list[Card]:
    """Those of all members that are here."""
    found: dict[str, Card] = {}

    def hear(message: Message) -> None:
        with contextlib.suppress(CodecError):
            card = nodes.heard(message.subject, message.data, partly=True)
            found[card.holder] = card

    subscription = await bus.subscribe(subjects.ALL_CARDS, hear)
    await asyncio.sleep(GATHER)
    await subscription.stop()
    return list(found.values())


def _fresh(heard: Heard[T]) -> list[T]:
    """Those that sent something in the last seconds."""
    limit = time.monotonic() - STALE
    return [each for at, each in heard.values() if at > limit]


async def dead_letters(bus: Bus) -> dict[str, int]:
    """The number of dead letters, by model."""
    found, _ = await queues.counts(bus, subjects.DEAD_STREAM, subjects.ALL_DEAD)
    return {subjects.decode(name.partition(".")[2]): count for name, count in found.items()}


def version(bus: Bus) -> str:
    """The server's version as ``2.15.1``; the client wraps it in other text."""
    found = re.search(r"\d+\.\d+\.\d+", bus.server_version)
    return found[0] if found else bus.server_version
