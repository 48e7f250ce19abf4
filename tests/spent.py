"""A pytest plugin: ``--spent N`` tells at the end where the time of a run went: the N files that
took longest, with the CPU time of all processes that their tests had, and each process of pytest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TICK = os.sysconf("SC_CLK_TCK")
OUTPUT = "spent"
Pair = tuple[float, float]
Said = tuple[Pair, dict[str, Pair], Pair]
"""Of a process: until all was collected; by file; until it ended."""
_KEY = pytest.StashKey["Spent"]()


@dataclass(slots=True)
class Spent:
    """Of one process of pytest. Times are seconds; pairs are of the clock and of CPU."""

    shown: int
    began: float = field(default_factory=time.monotonic)
    collected: Pair = (0.0, 0.0)
    files: dict[str, Pair] = field(default_factory=dict)
    since: Pair | None = None
    """When the file whose tests run now began."""
    others: dict[str, Said] = field(default_factory=dict)
    """What the processes said that ran tests for this one, by their names."""

    def ended(self, file: str, goes_on: bool) -> None:
        """A test of this file is over; the next one is of the same file or of another."""
        if goes_on or self.since is None:
            return
        clock, used = self.files.get(file, (0.0, 0.0))
        now = _now()
        self.files[file] = (clock + now[0] - self.since[0], max(0.0, used + now[1] - self.since[1]))
        self.since = None

    def said(self) -> Said:
        clock, used = _now()
        return self.collected, self.files, (clock - self.began, used)

    def lines(self) -> list[str]:
        """What to tell."""
        all_said = self.others or {"main": self.said()}
        files = {name: pair for _, found, _ in all_said.values() for name, pair in found.items()}
        longest = sorted(files, key=lambda name: -files[name][0])[: self.shown]
        rows = [f"{_pair(files[name])} {name}" for name in longest]
        whole = sum(pair[0] for pair in files.values()), sum(pair[1] for pair in files.values())
        rows.append(f"{_pair(whole)} all {len(files)} files")
        for name, (collected, _, ended) in sorted(all_said.items()):
            rows.append(f"{_pair(ended)} {name}, {collected[0]:.1f} until all was collected")
        return rows


def _pair(pair: Pair) -> str:
    return f"{pair[0]:7.1f} {pair[1]:7.1f}"


def _now() -> Pair:
    return time.monotonic(), cpu(os.getpid())


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used, and those of them that ended.

    One that lost its parent, as some of Chromium's do, is nobody's descendant, and counts no more.
    """
    children, ticks = dict[int, list[int]](), dict[int, int]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(int(stat[1]), []).append(int(entry.name))
            ticks[int(entry.name)] = sum(map(int, stat[11:15]))
    total, waiting = 0, [pid]
    while waiting:
        each = waiting.pop()
        total += ticks.get(each, 0)
        waiting += children.get(each, ())
    return total / TICK


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "tell which files took longest, and how much CPU: so many of them"
    parser.addoption("--spent", type=int, default=0, metavar="N", help=about)


def pytest_configure(config: pytest.Config) -> None:
    if shown := config.getoption("--spent"):
        config.stash[_KEY] = Spent(shown)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    found = yield
    if spent := session.config.stash.get(_KEY, None):
        spent.collected = (time.monotonic() - spent.began, cpu(os.getpid()))
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    spent = item.config.stash.get(_KEY, None)
    if spent is None:
        return (yield)
    spent.since = spent.since or _now()
    found = yield
    spent.ended(item.nodeid.partition("::")[0], nextitem is not None and nextitem.path == item.path)
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    spent = session.config.stash.get(_KEY, None)
    output = getattr(session.config, "workeroutput", None)
    if spent and output is not None:
        output[OUTPUT] = spent.said()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the process that hands out tests: one that ran some has ended, and says what it took."""
    spent = node.config.stash.get(_KEY, None)
    said = getattr(node, "workeroutput", {}).get(OUTPUT)
    if spent and said:
        spent.others[node.gateway.id] = said


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if (spent := config.stash.get(_KEY, None)) is None:
        return
    terminalreporter.section("seconds, and of CPU")
    for line in spent.lines():
        terminalreporter.write_line(line)
