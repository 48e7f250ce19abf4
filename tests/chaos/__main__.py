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

from tests.chaos.live import Found, live
from tests.chaos.overload import overload
from tests.chaos.run import run
from tests.chaos.soak import KEYED, Soak, soak
from tests.chaos.strikes import drawn, one_of_each, rolling

PROFILES = {"standard": (12, 3.0), "short": (8, 1.5), "rolling": (8, 2.0)}
"""By name: clients, and seconds between two disturbances. `short`: each kind of disturbance once,
in turn. `rolling`: each process is replaced once."""


OVERLOAD, SOAK, LIVE = "overload", "soak", "live"


def main() -> None:
    parser = argparse.ArgumentParser(description="A whole Headrace under load and disturbances")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--profile", choices=(*PROFILES, OVERLOAD, SOAK, LIVE), default="standard")
    parser.add_argument("--keyed", type=float, default=KEYED, help="share of the soak's requests")
    parser.add_argument("--home", type=Path, help="where logs and stores are kept")
    options = parser.parse_args()
    if options.profile == OVERLOAD:
        with _home(options.home) as home:
            found = asyncio.run(overload(home, options.minutes * 60))
        print(found.table())
        sys.exit(bool(found.faults))
    if options.profile in (SOAK, LIVE):
        with _home(options.home) as home:
            seed, seconds = options.seed, options.minutes * 60
            if options.profile == SOAK:
                seen: Soak | Found = asyncio.run(soak(home, seed, seconds, options.keyed))
            else:
                seen = asyncio.run(live(home, seed, seconds))
        print(seen.table())
        sys.exit(bool(seen.faults))
    clients, each = PROFILES[options.profile]
    blows, in_turn = drawn(options.seed, options.minutes, each), options.profile == "short"
    if options.profile == "short":
        blows = one_of_each(options.seed)
    elif options.profile == "rolling":
        blows = rolling(options.seed, each)
    print(f"seed {options.seed}", flush=True)
    with _home(options.home) as home:
        report = asyncio.run(run(home, options.seed, blows, clients, in_turn=in_turn))
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
