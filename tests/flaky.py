"""``python -m tests.flaky``: runs once more, one by one, what failed in a run of all tests.

A test that fails and then passes hides a fault, of the test or of the product. Each is named, and
fails the run in CI, unless `flaky.txt` names it: DATE NAME # REASON. The entry ends with its DATE.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("flaky.txt")
FAILED = Path(".pytest_cache/v/cache/lastfailed")
ADVICE = "A test that fails once is a fault: mend it, or say in tests/flaky.txt why it has to wait."


@dataclass(frozen=True, slots=True)
class Known:
    until: date
    name: str
    """As pytest prints it; without brackets it stands for all of its cases."""
    reason: str

    def covers(self, test: str, today: date) -> bool:
        return today < self.until and self.name in (test, test.partition("[")[0])


def known(text: str) -> list[Known]:
    """What a list says. Raises ValueError for a line without a date, a name or a reason."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            day, _, rest = line.partition(" ")
            name, _, reason = rest.rpartition(" # ")
            if not name.strip() or not reason.strip():
                raise ValueError(f"not DATE NAME # REASON: {line}")
            found.append(Known(date.fromisoformat(day), name.strip(), reason.strip()))
    return found


def verdict(flaky: list[str], listed: list[Known], today: date, ci: bool) -> tuple[int, list[str]]:
    """(exit code, what to print)"""
    said, unknown = [], False
    for test in flaky:
        why = next((each.reason for each in listed if each.covers(test, today)), "")
        said.append(f"FLAKY: {test} failed, then passed{why and f' (known: {why})'}")
        unknown = unknown or not why
    return int(unknown and ci), [*said, *([ADVICE] if unknown else [])]


def main(run: Callable[[list[str]], int] = pytest.main, listed: Path = LIST) -> int:
    """`run`: runs pytest here; the exit code."""
    entries = known(listed.read_text())
    before = _failed()
    ended = int(run(["--last-failed", "--last-failed-no-failures", "none"]))
    flaky = sorted(before - _failed())
    code, said = verdict(flaky, entries, date.today(), os.environ.get("CI") == "true")
    for line in said:
        print(line, file=sys.stderr)
    return ended or code


def _failed() -> set[str]:
    return set(json.loads(FAILED.read_text())) if FAILED.exists() else set()


if __name__ == "__main__":
    sys.exit(main())
