"""``python -m tests.chaos --seed 1 --minutes 20``: a run and its table; exit code 1 for faults."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Report, run
from tests.chaos.strikes import drawn, one_of_each

PROFILES = {"standard": (12, 5.0), "short": (8, 1.5)}
"""By name: clients, and seconds between two disturbances."""


def main() -> None:
    parser = argparse.ArgumentParser(description="A whole Headrace under load and disturbances")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--profile", choices=PROFILES, default="standard")
    parser.add_argument("--home", type=Path, help="where logs and stores are kept")
    options = parser.parse_args()
    clients, each = PROFILES[options.profile]
    blows = drawn(options.seed, options.minutes, each)
    if options.profile == "short":
        blows = one_of_each(options.seed, each)
    print(f"seed {options.seed}", flush=True)
    report = asyncio.run(_run(options.home, options.seed, blows, clients))
    print(report.table())
    sys.exit(bool(report.faults))


async def _run(home: Path | None, *rest: object) -> Report:
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
        return await run(home, *rest)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as made:
        return await run(Path(made), *rest)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
