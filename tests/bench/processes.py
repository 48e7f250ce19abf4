"""Requests a second of several ingress processes at one port, over those of one, in turns:
``scripts/bench processes [--processes 2] [--pairs 5]``.

Mock, load, broker and workers share the machine, so this says what the whole of it does.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console

from deploy.status import table
from tests.bench import procs
from tests.bench.bench import MODEL, Bench, Options, mock
from tests.bench.system import Engine, started

SLOTS = 64


def measured(options: Options, processes: int, workers: int, requests: int) -> tuple[float, float]:
    """(requests/s, ms of CPU of all ingress processes for one)."""
    with mock(options, slots=SLOTS, tokens=options.tokens, burst=True) as engine:
        engines = [Engine(f"mock{number}", engine.url) for number in range(workers)]
        with started(options.work / "one", MODEL, engines, processes=processes) as fabric:
            bench = Bench(options, engine, fabric)
            plan = bench.plan(requests, concurrency=SLOTS)
            bench.warm(plan, 400)
            done = bench.measure(plan)
            assert not done.run.failed, done.run.failed[:3]
            ingresses = [name for name in fabric.pids if name.startswith("ingress")]
            return done.rate, done.total(ingresses) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench processes", description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="processes of workers")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000)
    given = parser.parse_args()
    found: dict[int, list[tuple[float, float]]] = {1: [], given.processes: []}
    with procs.exiting_on_sigterm():
        for _ in range(given.pairs):
            for processes, rows in found.items():
                with tempfile.TemporaryDirectory(prefix="headrace-bench-") as work:
                    one = measured(Options(Path(work)), processes, given.workers, given.requests)
                    rows.append(one)
                    print(f"{processes}: {one[0]:.0f}/s, {one[1]:.2f} ms", file=sys.stderr)
    shown = [
        (
            processes,
            f"{median(rate for rate, _ in rows):.0f}",
            f"{min(rate for rate, _ in rows):.0f}–{max(rate for rate, _ in rows):.0f}",
            f"{median(cpu for _, cpu in rows):.2f}",
        )
        for processes, rows in found.items()
    ]
    columns = (">processes", ">requests/s", ">spread", ">CPU ms of ingresses")
    console = Console(width=120)
    console.print(table(columns, shown, f"{given.pairs} pairs, {os.cpu_count()} cores for all"))
    first, second = (median(rate for rate, _ in rows) for rows in found.values())
    console.print(f"{given.processes} processes over one: {second / first:.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
