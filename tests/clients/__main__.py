"""``python -m tests.clients [NAME …] [--engine calls|real|direct …]``: runs clients, prints what
they did, and at last a table. It ends with 1 if a step failed at an engine but `direct`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.clients.clients import CLIENTS
from tests.clients.run import Step, run
from tests.clients.stage import ENGINES, Engine, stage

Results = dict[tuple[str, Engine], list[Step]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/clients", description=__doc__)
    parser.add_argument("name", nargs="*", help=", ".join(CLIENTS))
    parser.add_argument("--engine", action="append", choices=ENGINES)
    options = parser.parse_args()
    names = options.name or list(CLIENTS)
    if strangers := set(names) - set(CLIENTS):
        parser.error(f"not among the clients: {', '.join(sorted(strangers))}")
    for name in names:
        CLIENTS[name].packages.install()
    engines: list[Engine] = options.engine or list(ENGINES)
    results: Results = {}
    for engine in engines:
        results |= asyncio.run(_at(engine, names))
    print("\n" + _table(names, engines, results))
    return int(
        any(not step.worked for at, steps in results.items() if at[1] != "direct" for step in steps)
    )


async def _at(engine: Engine, names: list[str]) -> Results:
    found: Results = {}
    for name in names:
        print(f"\n{name}, {engine}", flush=True)
        with tempfile.TemporaryDirectory() as home:
            async with stage(engine, Path(home), CLIENTS[name].context) as made:
                found[name, engine] = await run(name, CLIENTS[name], engine, made)
        for step in found[name, engine]:
            said = " ".join(step.said.split())
            print(f"  {'ok  ' if step.worked else 'FAIL'} {step.name}: {said}", flush=True)
    return found


def _table(names: list[str], engines: list[Engine], results: Results) -> str:
    rows = [["client", "versions", *engines], ["---"] * (2 + len(engines))]
    for name in names:
        counts = [_count(results[name, engine]) for engine in engines]
        rows.append([name, CLIENTS[name].packages.versions(), *counts])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _count(steps: list[Step]) -> str:
    return f"{sum(step.worked for step in steps)} of {len(steps)}"


if __name__ == "__main__":
    sys.exit(main())
