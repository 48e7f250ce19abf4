"""``python -m tests.chaos --seed 1 --minutes 20``: a run and its table; exit code 1 for faults."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.overload import overload
from tests.chaos.run import run
from tests.chaos.soak import soak
from tests.chaos.strikes import drawn, one_of_each, rolling

PROFILES = {"standard": (12, 3.0), "short": (8, 1.5), "rolling": (8, 2.0)}
"""By name: clients, and seconds between two disturbances. `short`: each kind of disturbance once.
`rolling`: each process is replaced once."""


OVERLOAD, SOAK = "overload", "soak"


def main() -> None:
    parser = argparse.ArgumentParser(description="A whole Headrace under load and disturbances")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--profile", choices=(*PROFILES, OVERLOAD, SOAK), default="standard")
    parser.add_argument("--home", type=Path, help="where logs and stores are kept")
    options = parser.parse_args()
    if options.profile == OVERLOAD:
        with _home(options.home) as home:
            found = asyncio.run(overload(home, options.minutes * 60))
        print(found.table())
        sys.exit(bool(found.faults))
    if options.profile == SOAK:
        with _home(options.home) as home:
            steady = asyncio.run(soak(home, options.seed, options.minutes * 60))
        print(steady.table())
        sys.exit(bool(steady.faults))
    clients, each = PROFILES[options.profile]
    blows = drawn(options.seed, options.minutes, each)
    if options.profile == "short":
        blows = one_of_each(options.seed, each)
    elif options.profile == "rolling":
        blows = rolling(options.seed, each)
    print(f"seed {options.seed}", flush=True)
    with _home(options.home) as home:
        report = asyncio.run(run(home, options.seed, blows, clients))
    print(report.table())
    sys.exit(bool(report.faults))


@contextmanager
def _home(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


if __name__ == "__main__":
    main()
