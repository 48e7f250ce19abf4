"""e: two engines of unequal speed behind one queue, held to an ideal queue on the same arrivals."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.bench import load
from tests.bench.bench import MODEL, Bench, Mock, Options, mock
from tests.bench.ideal import Backend, ttft
from tests.bench.report import Row
from tests.bench.stats import percentile
from tests.bench.system import Engine, started

RATES = (11.0, 14.0)
REQUESTS = 400
SLOTS = 4
TOKEN_MS = {"fast": 10.0, "slow": 40.0}
BACKENDS = [Backend(SLOTS, token_ms / 1000) for token_ms in TOKEN_MS.values()]
WARM_SECONDS = 20.0


def balance(options: Options) -> list[Row]:
    """One row for each rate; the faster engine's worker is asked first."""
    settings = {"slots": SLOTS, "tokens": options.tokens}
    with (
        mock(options, "fast", token_ms=TOKEN_MS["fast"], **settings) as fast,
        mock(options, "slow", token_ms=TOKEN_MS["slow"], **settings) as slow,
        started(
            options.work / "two",
            MODEL,
            [Engine("fast", fast.url), Engine("slow", slow.url, priority=1)],
        ) as fabric,
    ):
        bench = Bench(options, fast, fabric)
        _warm(bench, [fast, slow])
        return [_row(bench, rate, [fast, slow]) for rate in RATES]


def _warm(bench: Bench, mocks: list[Mock]) -> None:
    """Send until both engines have worked; raises TimeoutError if one never does."""
    end = time.monotonic() + WARM_SECONDS
    while time.monotonic() < end:
        bench.run(bench.plan(3 * SLOTS, concurrency=3 * SLOTS, stream=True, tokens=4, expect=""))
        if all(engine.last() for engine in mocks):
            return
    raise TimeoutError(f"an engine got no work within {WARM_SECONDS} s")


def _row(bench: Bench, rate: float, mocks: list[Mock]) -> Row:
    # A quick run is no tenth: fewer arrivals than this never fill the slots.
    requests = 60 if bench.options.quick else REQUESTS
    plan = replace(bench.plan(requests, stream=True), rate=rate)
    before = [engine.last() for engine in mocks]
    run = bench.run(plan)
    taken = [_starts(engine, after) for engine, after in zip(mocks, before, strict=True)]
    waits = [record.ttft for record in run.records]
    perfect = ttft(load.arrivals(plan), [plan.tokens] * requests, BACKENDS)
    measured, ideal = percentile(waits, 0.99), percentile(perfect, 0.99)
    return Row(
        figure="e",
        what=f"p99 TTFT over the ideal, Poisson {rate:g}/s, {requests} requests",
        unit="x",
        value=measured / ideal,
        target=1.2,
        reference=1.0,
        ratio=measured / ideal,
        failures=len(run.failed),
        detail={
            "p99 s": measured,
            "ideal p99 s": ideal,
            "p50 s": percentile(waits, 0.5),
            "ideal p50 s": percentile(perfect, 0.5),
            **dict(zip(TOKEN_MS, taken, strict=True)),
        },
        raw={"ttft_s": waits, "ideal_s": perfect},
    )


def _starts(engine: Mock, after: int) -> int:
    return sum(event["event"] == "start" for event in engine.events(after))
