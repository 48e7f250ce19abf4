"""The figures of one system with one engine: latency, CPU, rate, memory, and cancelling.

Each takes a `Bench` and returns its rows. For replies that are not streamed the mock writes its
stream in one go (`burst`), so that its own time is no part of the figure; the rows that say "token
by token" show the same where each token is a write of its own, as with a real engine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.bench import procs
from tests.bench.bench import Bench, Measured
from tests.bench.load import Plan, Record
from tests.bench.report import Row
from tests.bench.stats import percentile

MS = 1000.0
CLIENTS = 32
TOKEN_MS = 10.0
CUT_PATIENCE = 5.0


def latency(bench: Bench) -> list[Row]:
    """a: what the fabric adds, one request at a time, in turns with requests to the engine."""
    bench.engine.set(burst=True, token_ms=0.0)
    plan = bench.plan(2 * bench.options.count(1000))
    plan = replace(plan, urls=[bench.fabric.url, bench.engine.url])
    bench.warm(plan)
    run = bench.run(plan)
    fabric, straight = ([r.latency * MS for r in run.of(url)] for url in (0, 1))
    through, engine = percentile(fabric, 0.5), percentile(straight, 0.5)
    return [
        Row(
            figure="a",
            what="added latency p50, concurrency 1, not streamed",
            unit="ms",
            value=through - engine,
            target=1.5,
            reference=engine,
            ratio=through / engine,
            failures=len(run.failed),
            detail={"fabric p50": through, "p99": percentile(fabric, 0.99)},
            raw={"fabric": fabric, "straight": straight},
        )
    ]


def cloud(bench: Bench) -> list[Row]:
    """h: what a fallback adds to a call of its provider, reserved and settled, one at a time."""
    rows = []
    for stream, what in ((False, "not streamed"), (True, "to the first token, streamed")):
        bench.engine.set(burst=not stream, token_ms=0.0)
        plan = bench.plan(2 * bench.options.count(500), stream=stream)
        plan = replace(plan, urls=[bench.fabric.url, bench.engine.url])
        bench.warm(plan)
        run = bench.run(plan)
        through, straight = (
            [(r.ttft if stream else r.latency) * MS for r in run.of(url)] for url in (0, 1)
        )
        added = percentile(through, 0.5) - percentile(straight, 0.5)
        rows.append(
            Row(
                figure="h",
                what=f"added by the fallback p50, concurrency 1, {what}",
                unit="ms",
                value=added,
                target=5.0,
                reference=percentile(straight, 0.5),
                failures=len(run.failed),
                detail={"p99": percentile(through, 0.99)},
                raw={"fabric": through, "straight": straight},
            )
        )
    return rows


def unary(bench: Bench) -> list[Row]:
    """b and d: CPU per request and rate of replies that are not streamed."""
    rows = []
    plan = bench.plan(bench.options.count(6000), concurrency=CLIENTS)
    for burst in (True, False):
        bench.engine.set(burst=burst, token_ms=0.0)
        fabric, straight = _both(bench, plan)
        name = "" if burst else ", token by token"
        cpu = _cpu_row(bench, "b", f"CPU per request{name}", fabric, straight)
        rate = _rate_row(f"requests/s{name}", fabric, straight)
        # Token by token the engine's writes take as much of the machine as the fabric.
        rows += [replace(cpu, target=0.8), replace(rate, target=1200 if burst else None)]
    return rows


def streamed(bench: Bench) -> list[Row]:
    """c: CPU per streamed reply; also at an engine's real pace, where no tokens come together."""
    rows = []
    plan = bench.plan(bench.options.count(3000), concurrency=CLIENTS, stream=True)
    for pace, requests in ((0.0, plan.requests), (TOKEN_MS, bench.options.count(600))):
        bench.engine.set(burst=False, token_ms=pace)
        fabric, straight = _both(bench, replace(plan, requests=requests))
        at = f", {pace:g} ms a token" if pace else ""
        what = f"CPU per streamed reply of {plan.tokens} chunks{at}"
        row = _cpu_row(bench, "c", what, fabric, straight)
        rows.append(replace(row, target=None if pace else 2.0))
    return rows


def cancel(bench: Bench) -> list[Row]:
    """g: from a client's close() in the middle of a stream to the engine's slot being free."""
    bench.engine.set(burst=False, token_ms=TOKEN_MS, tokens=512)
    plan = bench.plan(max(60, bench.options.count(200)), concurrency=4, stream=True)
    plan = replace(plan, tokens=512, cut=(2, 20))
    through, failed = _cut(bench, plan)
    straight, _ = _cut(bench, bench.straight(plan))
    bench.engine.set(tokens=bench.options.tokens)
    return [
        Row(
            figure="g",
            what="client disconnect to free slot, p95",
            unit="ms",
            value=percentile(through, 0.95),
            target=100,
            reference=percentile(straight, 0.95),
            failures=failed,
            detail={"streams": plan.requests, "p50": percentile(through, 0.5)},
            raw={"fabric": through, "straight": straight},
        )
    ]


def memory(bench: Bench) -> list[Row]:
    """f: the ingress's memory once 10,000 requests (fewer in a quick run) have passed through."""
    bench.engine.set(burst=False, token_ms=0.0)
    missing, failures = bench.options.count(10_000) - bench.served, 0
    if missing > 0:
        plan = bench.plan(missing, concurrency=CLIENTS)
        failures = len(bench.run(plan).failed)
    megabytes = {name: procs.rss_bytes(pid) / 1e6 for name, pid in bench.fabric.pids.items()}
    return [
        Row(
            figure="f",
            what="RSS of the ingress",
            unit="MB",
            value=megabytes["ingress"],
            target=90,
            failures=failures,
            detail={"requests": bench.served, **megabytes},
        )
    ]


def _both(bench: Bench, plan: Plan) -> tuple[Measured, Measured]:
    """`plan` through the fabric and straight to the engine, each warmed up."""
    bench.warm(plan)
    fabric = bench.measure(plan)
    bench.warm(bench.straight(plan))
    return fabric, bench.measure(bench.straight(plan))


def _cpu_row(bench: Bench, figure: str, what: str, fabric: Measured, straight: Measured) -> Row:
    """CPU of the fabric's processes; the reference is the engine's own, asked straight."""
    total, engine = fabric.total(bench.fabric.pids) * MS, straight.cpu["engine"] * MS
    parts = {name: cpu * MS for name, cpu in fabric.cpu.items()}
    reads = sum(record.reads for record in fabric.run.records) / len(fabric.run.records)
    detail = parts | {"reads per reply": reads, "replies/s": fabric.rate}
    return Row(
        figure=figure,
        what=f"{what}, concurrency {CLIENTS}",
        unit="ms",
        value=total,
        reference=engine,
        ratio=total / engine if engine else None,
        failures=len(fabric.run.failed),
        detail=detail,
        raw={"straight": straight.cpu, "latency_s": [r.latency for r in fabric.run.records]},
    )


def _rate_row(what: str, fabric: Measured, straight: Measured) -> Row:
    waits = [record.latency * MS for record in fabric.run.records]
    return Row(
        figure="d",
        what=f"{what}, concurrency {CLIENTS}",
        unit="1/s",
        value=fabric.rate,
        at_least=True,
        reference=straight.rate,
        ratio=fabric.rate / straight.rate,
        failures=len(fabric.run.failed),
        detail={"p50 ms": percentile(waits, 0.5), "p99 ms": percentile(waits, 0.99)},
    )


def _cut(bench: Bench, plan: Plan) -> tuple[list[float], int]:
    """Milliseconds from each cut to the engine's abort (infinite: never), and how many failed."""
    before = bench.engine.last()
    run = bench.run(plan)
    aborts: dict[str, float] = {}
    end = time.monotonic() + CUT_PATIENCE
    while len(aborts) < plan.requests and time.monotonic() < end:
        ended = [e for e in bench.engine.events(before) if e["event"] == "abort"]
        aborts = {str(e["label"]): float(e["t_monotonic"]) for e in ended}
        time.sleep(0.05)
    waits = [_wait(record, aborts) for record in run.records]
    return waits, len(run.failed) + sum(map(math.isinf, waits))


def _wait(record: Record, aborts: dict[str, float]) -> float:
    freed = aborts.get(str(record.number))
    return math.inf if freed is None or not record.cut else (freed - record.cut) * MS


FIGURES: Sequence[tuple[str, Callable[[Bench], list[Row]]]] = (
    ("a", latency),
    ("bd", unary),
    ("c", streamed),
    ("g", cancel),
    ("f", memory),
)


def chosen(letters: str) -> list[Any]:
    """The functions that give the figures named by `letters`."""
    return [figure for names, figure in FIGURES if set(names) & set(letters)]
