"""What a kept answer costs at one ingress, and how many of them it gives in a second.

    scripts/bench cache [--requests 4000] [--rounds 5]

Each round asks one at a time (documents, then streams of 32 tokens), as does a fabric that keeps
nothing, in turn; then 32 at once. Half of what 32 at once take is the client's, on this machine;
the ingress' own time is that of its CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.bench import load, report
from tests.bench.bench import MODEL, Options, mock
from tests.bench.procs import cpu_seconds, exiting_on_sigterm
from tests.bench.stats import percentile
from tests.bench.system import Engine, System, started

AT_ONCE = 32


@dataclass
class Case:
    """What was found in each round. `cpu`: of the ingress, for one request."""

    name: str
    system: System
    stream: bool = False
    concurrency: int = 1
    share: float = 1.0
    """Of the requests of a round."""
    found: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, requests: int) -> None:
        count, pid = max(50, round(requests * self.share)), self.system.pids["ingress"]
        url, key = [self.system.url], self.system.key
        plan = load.Plan(url, count, self.concurrency, stream=self.stream, model=MODEL, key=key)
        before = cpu_seconds(pid)
        run = load.run(plan)
        if run.failed:
            raise SystemExit(f"{self.name}: {run.failed[0]}")
        times = [record.latency * 1000 for record in run.records]
        self.found["p50"].append(percentile(times, 0.5))
        self.found["p99"].append(percentile(times, 0.99))
        self.found["rate"].append(count / run.seconds)
        self.found["cpu"].append((cpu_seconds(pid) - before) / count * 1e3)

    def row(self) -> list[str]:
        found = {name: median(values) for name, values in self.found.items()}
        times = f"{found['p50']:.2f}", f"{found['p99']:.2f}"
        return [self.name, *times, f"{found['rate']:,.0f}", f"{found['cpu']:.3f}"]


@contextlib.contextmanager
def cases(work: Path) -> Iterator[list[Case]]:
    """Two fabrics before one engine; one keeps answers."""
    with (
        mock(Options(work), slots=AT_ONCE, tokens=32) as engine,
        started(work / "off", MODEL, [Engine("mock", engine.url)], extra=_use("off")) as off,
        started(work / "on", MODEL, [Engine("mock", engine.url)], extra=_use("on")) as on,
    ):
        yield [
            Case("kept, one at a time", on),
            Case("kept, streamed, one at a time", on, stream=True),
            Case("made, one at a time", off, share=0.25),
            Case("made, streamed, one at a time", off, stream=True, share=0.25),
            Case(f"kept, {AT_ONCE} at once", on, concurrency=AT_ONCE, share=2),
            Case(f"kept, streamed, {AT_ONCE} at once", on, stream=True, concurrency=AT_ONCE),
        ]


def _use(word: str) -> dict[str, dict[str, str]]:
    return {"cache": {"use": word}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench cache", description=__doc__)
    parser.add_argument("--requests", type=int, default=4000, help="of a case and round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    table = Table("case", "p50 ms", "p99 ms", "a second", "CPU of the ingress, ms")
    about = report.about(["scripts/bench cache", *sys.argv[1:]])
    with contextlib.ExitStack() as stack:
        stack.enter_context(exiting_on_sigterm())
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-"))
        measured = stack.enter_context(cases(Path(scratch)))
        for case in measured:  # the first answer is made, and kept
            case.measure(1)
            case.found.clear()
        for _ in range(given.rounds):
            for case in measured:
                case.measure(given.requests)
        for case in measured:
            table.add_row(*case.row())
    console = Console(width=120)
    console.print(about, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
