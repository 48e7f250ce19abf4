"""`docs/structure.md` shows file by file where requests go: a trace says whether it is so."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.bench.trace import WALKS, Walk, traced

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "structure.md"
CHAT = "One streamed chat"
PROVIDER = "One that goes to a provider"
OVERDUE = "One that no worker takes in time"
MOST = {CHAT: 32, PROVIDER: 40}
"""How many files a walk may enter."""
_STEP = re.compile(r"^\d+\. (.*)$", re.MULTILINE)
_FILE = re.compile(r"`([a-z0-9_/]+\.py)`")


TRACES = 3
"""A timer that strikes during each request of one trace, as on a busy machine, does not in all."""


@cache
def walk_of(heading: str, number: int) -> Walk:
    """The trace of that number; made once, as it takes some seconds."""
    assert number < TRACES
    return traced(WALKS[[CHAT, PROVIDER, OVERDUE].index(heading)])


@cache
def named(heading: str) -> list[str]:
    """The files in the numbered steps under `heading`, in their order."""
    sections = PAGE.read_text().split("\n## ")
    [section] = [each for each in sections if each.startswith(f"{heading}\n")]
    return [file for step in _STEP.findall(section) for file in _FILE.findall(step)]


def beside() -> set[str]:
    """What the page says is done beside requests: on a slow machine it strikes during each."""
    [line] = [each for each in PAGE.read_text().splitlines() if each.startswith("- Beside it: ")]
    return set(_FILE.findall(line))


def compare(heading: str, told: set[str]) -> None:
    walk = walk_of(heading, 0)
    entered = set(walk.files)
    for number in range(1, TRACES):
        if entered <= told | beside():
            break
        entered &= set(walk_of(heading, number).files)
    lacking = [
        f"{file} ({', '.join(walk.functions(file))})" for file in sorted(entered - told - beside())
    ]
    assert not lacking, f"{heading}: entered, but not on the page: {'; '.join(lacking)}"
    extra = ", ".join(sorted(told - entered))
    assert not extra, f"{heading}: on the page, but not entered: {extra}"


@pytest.mark.parametrize("heading", MOST)
def test_the_page_names_the_files_that_are_entered(heading: str) -> None:
    compare(heading, set(named(heading)))


def test_the_page_names_what_more_an_overdue_job_enters() -> None:
    """It says "as the one before", and names the rest."""
    compare(OVERDUE, {*named(PROVIDER), *named(OVERDUE)})


@pytest.mark.parametrize("heading", [CHAT, PROVIDER, OVERDUE])
def test_each_file_is_named_once(heading: str) -> None:
    files = named(heading)
    assert len(files) == len(set(files)), [file for file in files if files.count(file) > 1]


@pytest.mark.parametrize(("heading", "most"), MOST.items())
def test_a_walk_is_short(heading: str, most: int) -> None:
    files = named(heading)
    assert 0 < len(files) <= most, ", ".join(files)


def test_what_the_page_names_is_there() -> None:
    paths = set(re.findall(r"`([a-z0-9_]+/[a-z0-9_/]*(?:\.[a-z.]+)?)`", PAGE.read_text()))
    packages = ("schemas", "ingress", "workers", "fallback", "deploy", "tests")
    ours = [path for path in sorted(paths) if path.startswith(packages)]
    assert ours
    assert [path for path in ours if not (ROOT / path).exists()] == []
