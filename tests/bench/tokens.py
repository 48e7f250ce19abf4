"""What a streamed token costs: CPU of broker, ingress and worker, with paced streams out of phase.

    scripts/bench tokens [--against DIR] [--rounds 5] [--streams 64 16 4] [--json FILE]

With `--against`, another checkout's fabric runs beside this one's, and their turns alternate. Each
round measures each number of streams once. The ratio is that of the sums of the pairs' medians; all
pairs' own ratios stand beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench import report
from tests.bench.procs import ROOT, environment, exiting_on_sigterm
from tests.bench.stats import percentile
from workers.process import die_with_parent

PARTS = ("broker", "ingress", "worker")
ANSWER = 100
"""Tokens of an answer."""


@dataclass
class Side:
    """One checkout and what was measured of it, by the number of streams."""

    name: str
    child: subprocess.Popen[bytes]
    found: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, streams: int, seconds: float, seed: int) -> None:
        """One window."""
        asked = {"streams": streams, "seconds": seconds, "tokens": ANSWER, "seed": seed}
        assert self.child.stdin is not None
        self.child.stdin.write(orjson.dumps(asked) + b"\n")
        self.child.stdin.flush()
        found = orjson.loads(self.line())
        if found["faults"]:
            raise SystemExit(f"{self.name}: {found['faults'][:3]}")
        self.found[streams].append(found)

    def line(self) -> bytes:
        """The child's next line. Raises SystemExit if it has ended."""
        assert self.child.stdout is not None
        if not (line := self.child.stdout.readline()):
            raise SystemExit(f"{self.name}: its fabric has ended")
        return line

    def costs(self, streams: int, *parts: str) -> list[float]:
        """Milliseconds of CPU a token of these parts, one for each round."""
        return [
            1000 * sum(each["cpu"][part] for part in parts) / each["tokens"]
            for each in self.found[streams]
        ]

    def pooled(self, streams: int, what: str) -> list[float]:
        """The `gaps` or `firsts` of all rounds."""
        return [value for each in self.found[streams] for value in each[what]]


@contextlib.contextmanager
def side(name: str, checkout: Path, given: argparse.Namespace) -> Iterator[Side]:
    """The fabric of a checkout, until the block is left."""
    more = dict(each.split("=", 1) for each in given.set) if name == "here" else {}
    here = Path(__file__).with_name("tokens_child.py")
    # -P: its modules are the checkout's own, not those beside this file.
    asked = ANSWER, max(given.streams), given.pace
    argv = [str(_python(checkout)), "-P", str(here), *map(str, asked)]
    child = subprocess.Popen(
        die_with_parent.wrap(argv),
        cwd=checkout,
        env={**environment(), "PYTHONPATH": str(checkout), **more},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    made = Side(name, child)
    try:
        made.line()
        yield made
    finally:
        child.terminate()
        child.wait(20)


def _python(checkout: Path) -> Path:
    """That of the checkout, if `scripts/install` ran there: beside it is the command `headrace`,
    which knows its own packages."""
    own = checkout / ".venv/bin/python"
    return own if own.exists() else Path(sys.executable)


def shown(sides: list[Side], streams: int) -> list[tuple[str, ...]]:
    """The rows of one number of streams."""
    rows = []
    first = sides[0].costs(streams, *PARTS)
    for each in sides:
        costs = each.costs(streams, *PARTS)
        parts = [f"{median(each.costs(streams, part)):.4f}" for part in PARTS]
        ratios = [mine / theirs for mine, theirs in zip(costs, first, strict=True)]
        gaps, firsts = each.pooled(streams, "gaps"), each.pooled(streams, "firsts")
        rows.append(
            (
                str(streams),
                each.name,
                f"{median(costs):.4f}",
                *parts,
                "" if each is sides[0] else f"{median(costs) / median(first):.2f}",
                "" if each is sides[0] else " ".join(f"{ratio:.2f}" for ratio in ratios),
                *(f"{percentile(gaps, share):.1f}" for share in (0.5, 0.99)),
                *(f"{percentile(firsts, share):.1f}" for share in (0.5, 0.99) if firsts),
            )
        )
    return rows


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench tokens", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, the first")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of this one's environment",
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--streams", type=int, nargs="+", default=[64, 16, 4])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each (default: 4)")
    parser.add_argument("--pace", type=float, default=30.0, help="ms a token (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw numbers to FILE")
    return parser.parse_args()


def main() -> int:
    """Print the table."""
    given = parsed()
    checkouts = {"here": ROOT} if given.against is None else {"there": given.against, "here": ROOT}
    with exiting_on_sigterm(), contextlib.ExitStack() as stack:
        sides = [
            stack.enter_context(side(name, path.resolve(), given))
            for name, path in checkouts.items()
        ]
        for round_ in range(given.rounds):
            for streams in given.streams:
                for each in sides if round_ % 2 == 0 else reversed(sides):
                    each.measure(streams, given.seconds, round_)
    about = report.about(["scripts/bench", "tokens", *sys.argv[1:]])
    console = Console(width=160)
    for name, value in {**about, "load after": os.getloadavg()}.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)
    table = Table(title="CPU of a streamed token (ms), and what clients see (ms)")
    for name in ("streams", "checkout", "sum", *PARTS, "ratio", "each pair"):
        table.add_column(name, justify="right")
    for name in ("gap p50", "p99", "first p50", "p99"):
        table.add_column(name, justify="right")
    for streams in given.streams:
        for row in shown(sides, streams):
            table.add_row(*row)
    console.print(table)
    if given.json:
        given.json.write_bytes(
            orjson.dumps({each.name: each.found for each in sides}, option=orjson.OPT_NON_STR_KEYS)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
