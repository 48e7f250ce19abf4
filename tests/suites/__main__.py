"""``python -m tests.suites [NAME …] [--test ID …] [--page FILE]``: runs test suites of others at
llama-server and through Headrace, and says what passes directly and not through. It ends with 1
if there is such a test whose reason is not known. `--page` writes what the last runs of all
suites found, those of today and those kept from before."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.suites import page
from tests.suites.run import Outcome, Outcomes, Place, lost, run
from tests.suites.sources import CACHE
from tests.suites.suites import SUITES


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/suites", description=__doc__)
    parser.add_argument("name", nargs="*", help=", ".join(SUITES))
    parser.add_argument("--test", action="append", default=[], help="these tests alone")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    if strangers := set(options.name) - set(SUITES):
        parser.error(f"not among the suites: {', '.join(sorted(strangers))}")
    names = options.name or ([] if options.page else list(SUITES))
    unknown = [_run(name, options.test) for name in names]
    if options.page:
        options.page.write_text(page.written(_kept()))
    return int(any(unknown))


def _run(name: str, tests: list[str]) -> bool:
    """Whether something is lost for no known reason."""
    suite = SUITES[name]
    suite.install()
    print(f"{suite.title}, {suite.version()}", flush=True)
    found = run(suite, tests)
    seen = page.Seen(suite.version(), f"{datetime.now(UTC):%Y-%m-%d}", found)
    print(page.row(name, seen))
    for test in lost(found):
        why = page.reason(name, test) or f"NOT KNOWN: {found['through'][test].said}"
        print(f"  {test}: {why}")
    _keep(name, seen, whole=not tests)
    return any(not page.reason(name, test) for test in lost(found))


def _keep(name: str, seen: page.Seen, whole: bool) -> None:
    """Tests that were run alone take their place among those of the last run."""
    before = _kept().get(name)
    if before and not whole:
        merged = {place: {**before.found[place], **seen.found[place]} for place in seen.found}
        seen = page.Seen(seen.version, seen.on, merged)
    _file(name).write_text(json.dumps(asdict(seen)))


def _file(name: str) -> Path:
    folder = CACHE / "seen"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.json"


def _kept() -> dict[str, page.Seen]:
    kept = {}
    for name in SUITES:
        if _file(name).exists():
            told = json.loads(_file(name).read_text())
            found = {place: _outcomes(told["found"][place]) for place in told["found"]}
            kept[name] = page.Seen(told["version"], told["on"], found)
    return kept


def _outcomes(told: dict[Place, dict[str, str]]) -> Outcomes:
    return {name: Outcome(**one) for name, one in told.items()}


if __name__ == "__main__":
    sys.exit(main())
