"""What is done to the processes, and when: drawn from the seed, and at most so much at a time that
somebody is left to go on."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp

from tests.chaos.stage import INGRESSES, WORKERS, Stage, Strike, program_of, tell
from tests.fabric import Process


@asynccontextmanager
async def _outage(stage: Stage, what: str, name: str, hard: bool) -> AsyncIterator[None]:
    outage = stage.disturbed(what, name, hard)
    try:
        yield
    finally:
        outage.till = asyncio.get_running_loop().time()


async def worker_killed(stage: Stage, place: int, seconds: float) -> None:
    worker = stage.workers[place]
    async with _outage(stage, "worker", worker.name, hard=True):
        await worker.kill()
        await asyncio.sleep(seconds / 4)
        stage.workers[place] = await stage.worker(place)


async def worker_frozen(stage: Stage, place: int, seconds: float) -> None:
    worker = stage.workers[place]
    async with _outage(stage, "worker", worker.name, hard=False):
        await _freeze(worker, seconds)


async def worker_drained(stage: Stage, place: int, seconds: float) -> None:
    """As in a rolling restart: the next one comes first. No job may notice."""
    worker = stage.workers[place]
    stage.workers[place] = await stage.worker(place)
    await stage.drain(worker)


async def worker_cut_off(stage: Stage, place: int, seconds: float) -> None:
    """The network between the broker and the worker behind the proxy."""
    async with _outage(stage, "worker", stage.workers[0].name, hard=False):
        await stage.proxy.cut(seconds)


async def engine_killed(stage: Stage, place: int, seconds: float) -> None:
    await _engine_told(stage, place, signal.SIGKILL, seconds)


async def engine_frozen(stage: Stage, place: int, seconds: float) -> None:
    await _engine_told(stage, place, signal.SIGSTOP, seconds)


async def _engine_told(stage: Stage, place: int, number: int, seconds: float) -> None:
    worker = stage.workers[place or 1]
    program = program_of(worker)
    if program is None:
        return
    async with _outage(stage, "engine", worker.name, hard=True):
        await tell(program, number)
        await asyncio.sleep(seconds)
        await tell(program, signal.SIGCONT)


async def ingress_killed(stage: Stage, place: int, seconds: float) -> None:
    ingress = stage.ingresses[place]
    assert ingress is not None
    stage.ingresses[place] = None
    async with _outage(stage, "ingress", ingress.name, hard=True):
        await ingress.kill()
        await _another_ingress(stage, place)


async def ingress_frozen(stage: Stage, place: int, seconds: float) -> None:
    ingress = stage.ingresses[place]
    assert ingress is not None
    async with _outage(stage, "ingress", ingress.name, hard=False):
        await _freeze(ingress, seconds)


async def ingress_drained(stage: Stage, place: int, seconds: float) -> None:
    ingress = stage.ingresses[place]
    assert ingress is not None
    async with _outage(stage, "draining", ingress.name, hard=False):
        stage.ingresses[place] = None
        await stage.drain(ingress)
        await _another_ingress(stage, place)


async def _another_ingress(stage: Stage, place: int) -> None:
    made = await stage.ingress()
    await stage.setup.fabric.served(*stage.models, url=made.url)
    stage.ingresses[place] = made


async def fallback_killed(stage: Stage, place: int, seconds: float) -> None:
    fallback = stage.fallbacks[place]
    async with _outage(stage, "fallback", fallback.name, hard=True):
        await fallback.kill()
        stage.fallbacks[place] = await stage.fallback()


async def fallback_frozen(stage: Stage, place: int, seconds: float) -> None:
    fallback = stage.fallbacks[place]
    async with _outage(stage, "fallback", fallback.name, hard=False):
        await _freeze(fallback, seconds)


async def fallback_drained(stage: Stage, place: int, seconds: float) -> None:
    fallback = stage.fallbacks[place]
    stage.fallbacks[place] = await stage.fallback()
    await stage.drain(fallback)


async def broker_killed(stage: Stage, place: int, seconds: float) -> None:
    async with _outage(stage, "broker", "broker", hard=True):
        await asyncio.to_thread(stage.setup.fabric.broker.kill)
        await asyncio.sleep(seconds / 8)
        await asyncio.to_thread(stage.setup.fabric.broker.restart)
        await _reconnected(stage)


async def broker_restarted(stage: Stage, place: int, seconds: float) -> None:
    async with _outage(stage, "broker", "broker", hard=True):
        await asyncio.to_thread(stage.setup.fabric.broker.restart)
        await _reconnected(stage)


async def _reconnected(stage: Stage) -> None:
    """Until each ingress that runs says that it is ready."""
    for ingress in stage.serving():
        while ingress in stage.serving() and not await _ready(stage, ingress):
            await asyncio.sleep(0.05)


async def _ready(stage: Stage, ingress: Process) -> bool:
    try:
        async with stage.setup.fabric.session.get(ingress.url + "/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:  # it is struck meanwhile
        return False


async def _freeze(process: Process, seconds: float) -> None:
    process.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        process.signal(signal.SIGCONT)


@dataclass(frozen=True)
class Kind:
    """`among`: whose places are struck, of which at most `most` at once."""

    strike: Strike
    among: str
    weight: float = 1.0
    longest: float = 5.0

    @property
    def name(self) -> str:
        return self.strike.__name__


PLACES = {"worker": WORKERS, "ingress": INGRESSES, "fallback": 2, "broker": 1}
MOST = {"worker": WORKERS - 1, "ingress": 1, "fallback": 1, "broker": 1}
"""Of each, so many may be disturbed at once."""
KINDS = (
    Kind(worker_killed, "worker", 4.0),
    Kind(worker_frozen, "worker", 3.0, 6.0),
    Kind(worker_drained, "worker", 2.0),
    Kind(worker_cut_off, "worker", 2.0),
    Kind(engine_killed, "worker", 2.0, 2.0),
    Kind(engine_frozen, "worker", 1.0),
    Kind(ingress_killed, "ingress", 2.0),
    Kind(ingress_frozen, "ingress", 2.0, 4.0),
    Kind(ingress_drained, "ingress", 2.0),
    Kind(fallback_killed, "fallback", 2.0),
    Kind(fallback_frozen, "fallback", 1.0),
    Kind(fallback_drained, "fallback", 1.0),
    Kind(broker_killed, "broker", 1.5, 8.0),
    Kind(broker_restarted, "broker", 1.0),
)


@dataclass(frozen=True)
class Blow:
    """One disturbance: `at` seconds from the start, for `seconds` at most."""

    at: float
    kind: Kind
    place: int
    seconds: float


def drawn(seed: int, minutes: float, each: float) -> list[Blow]:
    """Disturbances for so long, one every `each` seconds: a function of the seed."""
    draw = random.Random(f"blows:{seed}")
    found: list[Blow] = []
    at = draw.uniform(0, each)
    while at < minutes * 60:
        kind = draw.choices(KINDS, [kind.weight for kind in KINDS])[0]
        found.append(_blow(draw, at, kind))
        at += draw.uniform(each / 2, each * 3 / 2)
    return found


def one_of_each(seed: int) -> list[Blow]:
    """Each kind of disturbance once, to be done in turn, in an order and at places that the seed
    tells. What a killed fallback reserved is given back after 10 s, so that one comes first."""
    draw = random.Random(f"blows:{seed}")
    kinds = draw.sample(KINDS, len(KINDS))
    kinds.sort(key=lambda kind: kind.strike is not fallback_killed)
    return [replace(_blow(draw, 0.0, kind), seconds=_BRIEF.get(kind.name, 1.0)) for kind in kinds]


_BRIEF = {"worker_frozen": 3.5, "broker_killed": 4.0}
"""Seconds, where one is not enough: another must have gone on before a frozen worker wakes up."""


def rolling(seed: int, each: float) -> list[Blow]:
    """Every process is replaced once, one after the other."""
    draw = random.Random(f"blows:{seed}")
    drained = [kind for kind in KINDS if kind.name.endswith("_drained")]
    places = [(kind, place) for kind in drained for place in range(PLACES[kind.among])]
    found = draw.sample(places, len(places))
    return [Blow(each * (1 + at), kind, place, 0.0) for at, (kind, place) in enumerate(found)]


def _blow(draw: random.Random, at: float, kind: Kind) -> Blow:
    place = 0 if kind.strike is worker_cut_off else draw.randrange(PLACES[kind.among])
    seconds = draw.choice((1.0, kind.longest, draw.uniform(0.3, kind.longest)))
    return Blow(at, kind, place, seconds)


@dataclass
class Strikes:
    """Carries out blows on a stage. One whose place is still disturbed waits."""

    stage: Stage
    struck: Counter[str] = field(default_factory=Counter)
    _room: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _places: dict[tuple[str, int], asyncio.Lock] = field(default_factory=dict)

    async def run(self, blows: Sequence[Blow]) -> None:
        """Return once all is well again. Raises what a blow raises."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                await asyncio.sleep(began + blow.at - asyncio.get_running_loop().time())
                group.create_task(self._strike(blow))

    async def in_turn(self, blows: Sequence[Blow], met: Callable[[str], Awaitable[None]]) -> None:
        """One after the other. `met`: waits until what is struck has work to do."""
        for blow in blows:
            await met(blow.kind.among)
            await self._strike(blow)

    async def _strike(self, blow: Blow) -> None:
        among = blow.kind.among
        place = self._places.setdefault((among, blow.place), asyncio.Lock())
        room = self._room.setdefault(among, asyncio.Semaphore(MOST[among]))
        async with place, room:
            await blow.kind.strike(self.stage, blow.place, blow.seconds)
            self.struck[blow.kind.name] += 1
