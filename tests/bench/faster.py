"""How often the faster of two engines takes the job, held to an ideal queue on the same arrivals.

    scripts/bench faster [--rate 11] [--requests 400] [--runs 3] [--only unequal near]

A mock engine each, of four slots; nobody says which one is faster. The ideal queue gives each
request the fastest slot that is free then, and nothing costs time there but the tokens.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.bench import load, report
from tests.bench.bench import MODEL, Bench, Mock, Options, mock
from tests.bench.ideal import Backend, answers
from tests.bench.report import Row
from tests.bench.stats import percentile
from tests.bench.system import Engine, started

SLOTS = 4
PAIRS = {"unequal": (10.0, 40.0), "near": (10.0, 11.0)}
"""Milliseconds a token of each engine."""
TARGET = 1.06
SETTLE = 8.0
"""Seconds of load before a run, in which the engines are measured and put in order."""


def pair(name: str, options: Options, rate: float, requests: int, runs: int) -> list[Row]:
    """One row for each run."""
    paces = PAIRS[name]
    with ExitStack() as stack:
        mocks = [
            stack.enter_context(
                mock(options, f"{name}-{at}", token_ms=pace, slots=SLOTS, tokens=options.tokens)
            )
            for at, pace in enumerate(paces)
        ]
        # The slower one first: whoever asked first would have the job if nothing else counted.
        engines = [Engine(f"engine-{at}", each.url) for at, each in enumerate(mocks)][::-1]
        fabric = stack.enter_context(started(options.work / name, MODEL, engines))
        bench = Bench(options, mocks[0], fabric)
        plan = replace(bench.plan(requests, stream=True), rate=rate)
        bench.run(replace(plan, requests=round(SETTLE * rate), seed=plan.seed + 1000))
        time.sleep(2.5)  # the requests of before wait at the broker for 2 s
        return [
            _row(f"{paces[0]:g} and {paces[1]:g} ms", bench, replace(plan, seed=seed), mocks, paces)
            for seed in range(plan.seed, plan.seed + runs)
        ]


def _row(
    what: str, bench: Bench, plan: load.Plan, mocks: Sequence[Mock], paces: Sequence[float]
) -> Row:
    before = [engine.last() for engine in mocks]
    run = bench.run(plan)
    taken = [_starts(engine, after) for engine, after in zip(mocks, before, strict=True)]
    took = [record.latency for record in run.records]
    backends = [Backend(SLOTS, pace / 1000) for pace in paces]
    perfect = answers(load.arrivals(plan), [plan.tokens] * plan.requests, backends)
    measured, ideal = percentile(took, 0.5), percentile(perfect, 0.5)
    return Row(
        figure="faster",
        what=f"whole answer, p50 over the ideal, {what} a token, Poisson {plan.rate:g}/s",
        unit="x",
        value=measured / ideal,
        target=TARGET if paces == PAIRS["unequal"] else None,
        reference=1.0,
        ratio=measured / ideal,
        failures=len(run.failed),
        detail={
            "p50 s": measured,
            "ideal p50 s": ideal,
            "mean over the ideal": sum(took) / sum(perfect),
            "p95 s": percentile(took, 0.95),
            "ideal p95 s": percentile(perfect, 0.95),
            "jobs": "/".join(map(str, taken)),
        },
        raw={"answers_s": took, "ideal_s": perfect},
    )


def _starts(engine: Mock, after: int) -> int:
    return sum(event["event"] == "start" for event in engine.events(after))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench faster", description="Two engines, one queue.")
    parser.add_argument("--rate", type=float, default=11.0, help="requests a second (default: 11)")
    parser.add_argument("--requests", type=int, default=400, help="of a run (default: 400)")
    parser.add_argument("--runs", type=int, default=3, help="of each pair (default: 3)")
    parser.add_argument("--only", nargs="*", choices=list(PAIRS), default=list(PAIRS))
    given = parser.parse_args()
    about = report.about(["scripts/bench", *sys.argv[1:]])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="headrace-faster-") as scratch:
        options = Options(Path(scratch))
        for name in given.only:
            print(f"… {name}", file=sys.stderr)
            rows += pair(name, options, given.rate, given.requests, given.runs)
    report.show(rows, about, Console(width=200))
    return 0


if __name__ == "__main__":
    sys.exit(main())
