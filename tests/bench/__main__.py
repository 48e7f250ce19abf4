"""Runs the figures: ``scripts/bench [--quick] [--figures abcdefgh] [--json FILE]``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.bench import balance, figures, report
from tests.bench.bench import MODEL, Bench, Options, mock
from tests.bench.procs import exiting_on_sigterm
from tests.bench.report import Row
from tests.bench.system import Engine, started

ALL = "abcdefgh"
SLOTS = 32


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure Headrace on this machine.")
    parser.add_argument("--figures", default=ALL, help=f"which ones, of {ALL} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw numbers to FILE")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals and cuts (default: 1)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a reply (default: 32)")
    parser.add_argument("--limit", type=int, default=900, help="seconds until it gives up")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and configs in DIR")
    options = parser.parse_args()
    if not options.figures or set(options.figures) - set(ALL):
        parser.error(f"--figures takes letters of {ALL}")
    return options


def measured(letters: str, options: Options, console: Console) -> list[Row]:
    """The rows of the figures named by `letters`."""
    rows: list[Row] = []
    if todo := figures.chosen(letters):
        with (
            mock(options, slots=SLOTS, tokens=options.tokens) as engine,
            started(options.work / "one", MODEL, [Engine("mock", engine.url)]) as fabric,
        ):
            bench = Bench(options, engine, fabric)
            for figure in todo:
                console.print(f"… {figure.__doc__}", highlight=False)
                rows += figure(bench)
    if "h" in letters:
        console.print(f"… {figures.cloud.__doc__}", highlight=False)
        with (
            mock(options, name="provider", slots=SLOTS, tokens=options.tokens) as engine,
            started(options.work / "paid", MODEL, [], provider=engine.url + "/v1") as fabric,
        ):
            rows += figures.cloud(Bench(options, engine, fabric))
    if "e" in letters:
        console.print(f"… {balance.__doc__}", highlight=False)
        rows += balance.balance(options)
    return sorted((row for row in rows if row.figure in letters), key=lambda row: row.figure)


def main() -> int:
    """Print the table; the exit code tells whether it was measured, not whether targets are met."""
    given = parsed()
    console, progress = Console(width=160), Console(stderr=True)
    about = report.about(["scripts/bench", *sys.argv[1:]])
    # An alarm raises in whatever wait it interrupts, so every process is stopped on the way out.
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done within {given.limit} s"))
    signal.alarm(given.limit)
    with exiting_on_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        work = given.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        options = Options(work, given.quick, given.seed, given.tokens)
        rows = measured(given.figures, options, progress)
    report.show(rows, about, console)
    if given.json:
        report.save(rows, about, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
