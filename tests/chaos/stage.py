"""The processes of a chaos run: they are disturbed, and come back."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.acceptance.cloud.cloud_setup import SECRET, CloudSetup, open_cloud
from tests.chaos.asks import CLOUD, ECHO, MIXED, PARROT
from tests.chaos.proxy import Proxy, proxy
from tests.doubles.providers import OpenAI
from tests.fabric import Process, table

WORKERS, INGRESSES, FALLBACKS = 3, 2, 2
MODEL = "gpt-4o-mini"
GRANTED = 10**12
ATTEMPTS = 8
"""Of each job: more than a run disturbs the holders of one job, so that none may be given up."""
SLOTS = 6
"""Of the echo engine of each worker."""


@dataclass(frozen=True)
class Pace:
    """Of the echo engines; and the processes' `level` of the log."""

    first_ms: int = 20
    token_ms: int = 25
    level: str = "debug"

    @property
    def engine(self) -> str:
        pace = f"first_ms={self.first_ms}&token_ms={self.token_ms}"
        return f"echo://?model=echo&slots={SLOTS}&{pace}"

    @property
    def settings(self) -> dict[str, Any]:
        return {"jobs.max_attempts": ATTEMPTS, "log.level": self.level}


@dataclass
class Outage:
    """From when to when something was disturbed, in monotonic seconds. `hard`: its connections
    were broken. `till` is infinite while it lasts."""

    what: str
    name: str
    since: float
    hard: bool
    till: float = float("inf")

    def overlaps(self, since: float, till: float) -> bool:
        return self.since <= till and since <= self.till


@dataclass
class Stage:
    """`ingresses`, `workers`, `fallbacks`: who serves now, by place. An ingress that is to get no
    new requests is None. `models`: what its workers serve."""

    models: ClassVar[tuple[str, ...]] = (ECHO, PARROT)

    setup: CloudSetup
    sim: OpenAI
    proxy: Proxy
    pace: Pace = Pace()
    ingresses: list[Process | None] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    fallbacks: list[Process] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def open(self) -> None:
        await self.setup.grant(GRANTED)
        self.setup.provider("sim", self.sim)
        self.setup.price("sim", MODEL)
        self.setup.route(MIXED, [f"sim/{MODEL}"], model=ECHO, claim=1.0)
        self.setup.route(CLOUD, [f"sim/{MODEL}"], claim=20.0)
        self.ingresses = [await self.ingress() for _ in range(INGRESSES)]
        self.workers = list(await asyncio.gather(*map(self.worker, range(WORKERS))))
        self.fallbacks = list(await asyncio.gather(*(self.fallback() for _ in range(FALLBACKS))))
        for ingress in self.ingresses:
            assert ingress is not None
            await self.setup.fabric.served(*self.models, url=ingress.url)
        await self.setup.provided(CLOUD)

    async def ingress(self) -> Process:
        config = {**self.pace.settings, "ingress.absence": 60.0}
        return await self.setup.ingress(config)

    async def worker(self, place: int) -> Process:
        """The first one reaches the broker through the proxy, the others have a program as well."""
        config: dict[str, Any] = {
            **self.pace.settings,
            "worker.node": f"node-{place}",
            "worker.stall": 3.0,
        }
        engines = table("[engines]", {"name": "echo", "kind": "echo", "url": self.pace.engine})
        if place == 0:
            config["nats.url"] = self.proxy.url
        else:
            engines += table(
                "[engines]", {"name": "parrot", "kind": "llamacpp", "command": PROGRAM}
            )
        made = await self.setup.fabric.crew(engines, config)
        for name in ("echo", "parrot")[: 1 + (place > 0)]:
            await made.logged("engine.ready", engine=name)
        return made

    async def fallback(self) -> Process:
        return await self.setup.fallback(self.pace.settings)

    async def drain(self, process: Process) -> None:
        """SIGTERM, and the end that it must come to."""
        if code := await process.stop():
            self.faults.append(f"{process.name} ended with {code}: {process.lines[-3:]}")

    def serving(self) -> list[Process]:
        return [ingress for ingress in self.ingresses if ingress is not None]

    def disturbed(self, what: str, name: str, hard: bool) -> Outage:
        outage = Outage(what, name, time.monotonic(), hard)
        self.outages.append(outage)
        return outage

    def during(self, since: float, till: float, *what: str) -> list[Outage]:
        return [each for each in self.outages if each.what in what and each.overlaps(since, till)]

    @property
    def processes(self) -> list[Process]:
        """All that ever ran."""
        return self.setup.fabric.processes


PROGRAM = [
    sys.executable,
    *("-m", "tests.doubles.programs", "llamacpp"),
    *("--port", "{port}", "--token-s", "0.02"),
]


@asynccontextmanager
async def stage(
    home: Path, pace: Pace = Pace(), fresh: bool = False, kind: type[Stage] = Stage
) -> AsyncIterator[Stage]:
    """`fresh`: as `Fabric` has it."""
    async with AsyncExitStack() as stack:
        setup = await stack.enter_async_context(open_cloud(home))
        setup.fabric.fresh = fresh
        sim = await stack.enter_async_context(OpenAI(key=SECRET))
        sim.pace.token_s = 0.02
        link = await stack.enter_async_context(proxy(lambda: setup.fabric.broker.url))
        made = kind(setup, sim, link, pace)
        try:
            await made.open()
            yield made
        finally:
            for process in made.processes:
                log = home / f"{process.name}.log"
                log.write_text("".join(f"{json.dumps(line)}\n" for line in process.lines))


def program_of(worker: Process) -> int | None:
    """The process id of the program that the worker runs now; None while it runs none."""
    found = None
    for line in worker.lines:
        if line.get("event") == "process.started":
            found = int(line["pid"])
        elif line.get("event") == "process.ended":
            found = None
    return found


async def tell(process: int, number: int) -> bool:
    """Send a signal; False if there is no such process any more."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


Strike = Callable[[Stage, int, float], Awaitable[None]]
"""What happens to a stage: at a place, for so many seconds."""
