"""How fair a queue is: what a polite account waits beside a greedy one, and what that costs.

    scripts/bench fair [--seconds 10] [--only NAME ...]

Real ingresses, broker and worker, and an echo engine of four slots whose jobs take 50 to 125 ms: a
quarter of the 0.2 to 0.5 s of short chats, so that a run is short. A wait is what an answer took
beyond its service.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from deploy.nats import broker as brokers
from tests.bench import report
from tests.bench.procs import cpu_seconds, rss_bytes
from tests.bench.report import Row
from tests.bench.stats import percentile
from tests.fabric import Fabric, Process, ask, fabric

SLOTS = 4
SERVICE = 0.05, 0.125
MEAN = sum(SERVICE) / 2
QUEUED = 1000
SETTLE = 3.0
"""Seconds in which all of a crowd are in the queue."""
DEPTHS = {"jobs.queue_depth": 5000, "jobs.tenant_depth": 4000}


@dataclass
class Run:
    """Requests of several accounts at running ingresses."""

    made: Fabric
    ingresses: list[Process]
    seconds: float
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    waits: list[float] = field(default_factory=list)
    answered: list[tuple[float, str]] = field(default_factory=list)
    failures: int = 0

    async def ask(self, account: str, at: int = 0, service: float = 0.0) -> float:
        """Seconds that the answer took beyond its service."""
        service = service or self.dice.uniform(*SERVICE)
        body = {**ask("a b c"), "echo": {"first_ms": service * 1000}}
        headers = {"Authorization": f"Bearer {secret(account)}"}
        began = time.perf_counter()
        status, _, _ = await self.made.post(body, self.ingresses[at].url, **headers)
        ended = time.perf_counter()
        self.failures += status != 200
        self.answered.append((ended, account))
        return ended - began - service

    def many(self, account: str, jobs: int, at: int = 0) -> list[asyncio.Task[float]]:
        return [asyncio.create_task(self.ask(account, at)) for _ in range(jobs)]

    async def polite(self, at: int = 0) -> None:
        """One request after each mean service time, whatever became of those before."""
        asked = []
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            asked.append(asyncio.create_task(self.ask("polite", at)))
            await asyncio.sleep(MEAN)
        self.waits += await asyncio.gather(*asked)


def secret(account: str) -> str:
    return f"sk-bench-{account}-0123456789"


def keys(accounts: dict[str, float]) -> str:
    return "".join(
        f'[[keys]]\nname = "{name}"\naccount = "{name}"\nsecret = "{secret(name)}"\n'
        f"weight = {weight}\n"
        for name, weight in accounts.items()
    )


@asynccontextmanager
async def running(
    seconds: float, ingresses: int = 1, accounts: dict[str, float] | None = None
) -> AsyncIterator[Run]:
    tables = keys(accounts or {"greedy": 1.0, "heavy": 3.0, "polite": 1.0})
    with tempfile.TemporaryDirectory(prefix="headrace-fair-") as scratch:
        home = Path(scratch)
        with brokers.start(home / "broker", 0, 0) as broker:
            async with fabric(broker, home, {"log.level": "info"}) as made:
                started = [await made.ingress(DEPTHS, tables=tables) for _ in range(ingresses)]
                await made.worker(slots=SLOTS)
                for each in started:
                    await made.served("echo", url=each.url)
                yield Run(made, started, seconds)
                for process in made.processes:
                    await process.kill()


async def _p95(seconds: float, ingresses: int, greedy: int) -> tuple[Run, float]:
    async with running(seconds, ingresses) as run:
        backlog = run.many("greedy", greedy)
        if backlog:
            await asyncio.sleep(SETTLE)
        await run.polite(ingresses - 1)
        for task in backlog:
            task.cancel()
        await asyncio.gather(*backlog, return_exceptions=True)
    return run, percentile(run.waits, 0.95)


async def waits(seconds: float) -> list[Row]:
    """polite waits beside 1,000 jobs of another"""
    alone, base = await _p95(seconds, 1, 0)
    target = 1.5 * base + MEAN
    about = {"p50": round(percentile(alone.waits, 0.5), 4), "most": round(max(alone.waits), 4)}
    rows = [Row("fair", "polite alone, wait p95", "s", base, detail=about)]
    for ingresses in (1, 3):
        run, found = await _p95(seconds, ingresses, QUEUED)
        what = f"polite beside {QUEUED}, {ingresses} ingress{'es' * (ingresses > 1)}, wait p95"
        p50 = percentile(run.waits, 0.5)
        about = {"p50": round(p50, 4), "most": round(max(run.waits), 4), "n": len(run.waits)}
        rows.append(Row("fair", what, "s", found, target, failures=run.failures, detail=about))
    return rows


async def shares(seconds: float) -> list[Row]:
    """two greedy accounts with weights 1:3"""
    rows = []
    for ingresses in (1, 3):
        async with running(seconds, ingresses) as run:
            asked = []
            each = round(seconds * SLOTS / MEAN / ingresses) + 60
            for at in range(ingresses):
                asked += run.many("greedy", each, at) + run.many("heavy", each, at)
            await asyncio.sleep(seconds / 2)
            first = len(run.answered)
            await asyncio.sleep(seconds / 2)
            got = Counter(account for _, account in run.answered[first:])
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        share = got["heavy"] / got["greedy"]
        off = abs(share / 3 - 1)
        what = f"share of weight 3 to weight 1, {ingresses} ingress{'es' * (ingresses > 1)}: off by"
        about = {"ratio": round(share, 3), "jobs": sum(got.values())}
        rows.append(Row("fair", what, "", off, 0.05, failures=run.failures, detail=about))
    return rows


async def use(seconds: float) -> list[Row]:
    """slots in use at 350 ms a job, with the beginning and the end of the run"""
    rows = []
    for what, tenants in (("three accounts", ("greedy", "heavy", "polite")), ("one", ("greedy",))):
        async with running(seconds) as run:
            jobs = round(2 * seconds * SLOTS / 0.35 / len(tenants))
            began = time.perf_counter()
            asked = [
                asyncio.create_task(run.ask(name, service=0.35))
                for _ in range(jobs)
                for name in tenants
            ]
            await asyncio.gather(*asked)
            took = time.perf_counter() - began
        share = len(asked) * 0.35 / SLOTS / took
        about = {"jobs": len(asked), "seconds": round(took, 2)}
        rows.append(Row("fair", f"slots in use, {what}", "", share, detail=about))
    return rows


async def many(seconds: float) -> list[Row]:
    """1,000 accounts of one job each, against one account of 1,000"""
    accounts = {f"a{number}": 1.0 for number in range(QUEUED)}
    found = {}
    for what, names in (("one", ["a0"] * QUEUED), ("thousand", list(accounts))):
        async with running(seconds, accounts=accounts) as run:
            pid = run.made.broker.pid
            before = cpu_seconds(pid)
            asked = [asyncio.create_task(run.ask(name, service=0.01)) for name in names]
            await asyncio.sleep(1.0)
            memory = float(rss_bytes(pid))
            await asyncio.gather(*asked)
            found[what] = (cpu_seconds(pid) - before) / QUEUED, memory / 2**20, run.failures
    (cpu, memory, failed), (cpu_one, memory_one, _) = found["thousand"], found["one"]
    about = {"ms": round(cpu * 1e3, 3), "one account, ms": round(cpu_one * 1e3, 3)}
    sizes = {"MiB": round(memory, 1), "one account, MiB": round(memory_one, 1)}
    return [
        Row("fair", "broker CPU a job", "x", cpu / cpu_one, 1.5, failures=failed, detail=about),
        Row("fair", "broker memory", "x", memory / memory_one, 1.5, detail=sizes),
    ]


ALL: dict[str, Callable[[float], Awaitable[list[Row]]]] = {
    "waits": waits,
    "shares": shares,
    "use": use,
    "many": many,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench fair", description="Measure how fair queues are.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default: 10)")
    parser.add_argument("--only", nargs="*", choices=list(ALL), default=list(ALL))
    given = parser.parse_args()
    about = report.about(["scripts/bench", *sys.argv[1:]])
    rows: list[Row] = []
    for name in given.only:
        print(f"… {ALL[name].__doc__}", file=sys.stderr)
        rows += asyncio.run(_rows(ALL[name], given.seconds))
    report.show(rows, about, Console(width=160))
    return 0


async def _rows(measure: Callable[[float], Awaitable[list[Row]]], seconds: float) -> list[Row]:
    return await measure(seconds)


if __name__ == "__main__":
    sys.exit(main())
