"""What limits cost, and how exact they are, with three ingresses at a real broker.

    scripts/bench limits [--seconds 20] [--only NAME]

Each ingress is a process of its own with the product's limiter and no HTTP, so that the load is
what it should be. Told are the most permits of any sliding window and the most at once, over the
permits of all processes together; how much of what the limit allows was used; the time of a
decision; the broker's share.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from deploy.nats import broker as brokers
from deploy.nats.broker import Broker
from ingress.limits.clock import steady
from tests.bench import report
from tests.bench.limits_child import EVENT
from tests.bench.procs import ROOT, cpu_seconds, environment, exiting_on_sigterm
from tests.bench.stats import percentile

INGRESSES = 3
WINDOW = 6.0
TOKENS = 100
"""That each request uses."""


@dataclass
class Case:
    """`rate`: requests a second of all ingresses together. `hold`: seconds that each runs."""

    name: str
    limits: dict[str, Any]
    rate: float
    hold: float = 0.0
    kill: bool = False


CASES = (
    Case("3 a window", {"requests": 3}, 300),
    Case("2,000 a window", {"requests": 2000}, 1000),
    Case("200,000 tokens a window", {"tokens": 200_000}, 600),
    Case("20,000 a window, not reached", {"requests": 20_000}, 1000),
    Case("concurrent 3", {"concurrent": 3}, 60, hold=0.2),
    Case("concurrent 10, one killed", {"concurrent": 10}, 450, hold=0.05, kill=True),
    Case("concurrent 200", {"concurrent": 200}, 450, hold=0.3),
)


@dataclass
class Found:
    """`taken`: (taken, given back) of each permit. `back`: seconds from a kill until the others had
    all places."""

    taken: list[tuple[float, float]] = field(default_factory=list)
    micros: list[float] = field(default_factory=list)
    calls: int = 0
    cpu: float = 0.0
    broker: float = 0.0
    back: float = 0.0
    begin: float = 0.0


class Child:
    """One ingress."""

    def __init__(self, broker: Broker, case: Case, number: int, seconds: float, home: Path) -> None:
        user, password = broker.users["keys"]
        self.journal = home / f"journal-{number}"
        given = {
            "url": broker.url,
            "user": user,
            "password": password,
            "owner": f"in-{number}",
            "limits": case.limits,
            "window": WINDOW,
            "rate": case.rate / INGRESSES,
            "hold": case.hold,
            "seconds": seconds,
            "journal": str(self.journal),
        }
        command = [sys.executable, "-m", "tests.bench.limits_child", orjson.dumps(given).decode()]
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True
        )

    def line(self) -> dict[str, Any]:
        assert self.popen.stdout is not None
        found: dict[str, Any] = orjson.loads(self.popen.stdout.readline())
        return found

    def begin(self, at: float) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{at}\n")
        self.popen.stdin.flush()

    def taken(self, ended: float) -> list[tuple[float, float]]:
        """What its journal says; what it had at its end was given back then."""
        begun: dict[int, float] = {}
        found = []
        for number, moment in EVENT.iter_unpack(self.journal.read_bytes()):
            if moment > 0:
                begun[number] = moment
            else:
                found.append((begun.pop(number), -moment))
        return found + [(moment, ended) for moment in begun.values()]


def measured(case: Case, seconds: float) -> Found:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(brokers.start(home / "broker", 0, 0))
        running = []
        for number in range(INGRESSES):
            running.append(child := Child(broker, case, number, seconds, home))
            stack.callback(child.popen.wait)
            stack.callback(child.popen.kill)
            child.line()
        before = cpu_seconds(broker.pid)
        return _loaded(case, running, seconds, before, broker)


def _loaded(
    case: Case, running: list[Child], seconds: float, before: float, broker: Broker
) -> Found:
    begin = steady() + 0.2
    found = Found(begin=begin)
    for child in running:
        child.begin(begin)
    killed = 0.0
    if case.kill:
        time.sleep(seconds / 2)
        running[0].popen.kill()
        killed = steady()
    for child in running[1:] if killed else running:
        line = child.line()
        found.micros += line["micros"]
        found.calls += line["calls"]
        found.cpu += line["cpu"]
    for child in running:
        found.taken += child.taken(killed or begin + seconds)
    found.broker = cpu_seconds(broker.pid) - before
    if killed:
        found.back = _all_back(running, killed, case.limits["concurrent"])
    return found


def _all_back(running: list[Child], killed: float, places: int) -> float:
    """Seconds from the kill until the others held all places at once."""
    taken = [pair for child in running[1:] for pair in child.taken(killed)]
    now = 0
    for moment, change in _changes(taken):
        now += change
        if now >= places and moment > killed:
            return moment - killed
    return float("inf")


def most_in_window(moments: list[float], window: float) -> int:
    """The most of any sliding window, whose ends belong to it."""
    moments, first, most = sorted(moments), 0, 0
    for last, moment in enumerate(moments):
        while moment - moments[first] > window:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_at_once(taken: list[tuple[float, float]]) -> int:
    most = now = 0
    for _, change in _changes(taken):
        now += change
        most = max(most, now)
    return most


def _changes(taken: list[tuple[float, float]]) -> list[tuple[float, int]]:
    return sorted([(begin, 1) for begin, _ in taken] + [(end, -1) for _, end in taken])


def used(case: Case, found: Found, seconds: float) -> float:
    """What was used, as a part of what the limit allows for this load."""
    if places := case.limits.get("concurrent"):
        busy = sum(min(end, found.begin + seconds) - begin for begin, end in found.taken)
        return float(busy / min(places * seconds, case.rate * seconds * case.hold))
    return len(found.taken) / ideal(case, seconds)


def ideal(case: Case, seconds: float) -> int:
    """How many a limit allows that one process alone keeps."""
    most = case.limits.get("requests") or case.limits["tokens"] // TOKENS
    taken = deque[float]()
    count = 0
    for number in range(int(case.rate * seconds)):
        moment = number / case.rate
        while taken and moment - taken[0] > WINDOW:
            taken.popleft()
        if len(taken) < most:
            taken.append(moment)
            count += 1
    return count


def row(case: Case, found: Found, seconds: float) -> list[str]:
    moments = [begin for begin, _ in found.taken]
    most = (
        most_at_once(found.taken)
        if "concurrent" in case.limits
        else most_in_window(moments, WINDOW) * (TOKENS if "tokens" in case.limits else 1)
    )
    asked = len(found.micros)
    micros = [percentile(found.micros, share) for share in (0.5, 0.95, 0.99)]
    back = f"; all places back after {found.back:.2f} s" if case.kill else ""
    return [
        case.name,
        f"{case.rate:g}",
        f"{most:,}{back}",
        f"{used(case, found, seconds):.0%}",
        " / ".join(f"{each:,.1f}" for each in micros),
        f"{found.calls / asked:.4f}",
        f"{found.broker / asked * 1e6:.0f}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    given = parser.parse_args()
    about = report.about(["scripts/bench", *sys.argv[1:]])
    table = Table(title=f"Limits, a window of {WINDOW:g} s, {given.seconds:g} s each")
    for name in ("case", "asked/s", "most", "used", "µs p50 / p95 / p99", "calls", "broker µs"):
        table.add_column(name, justify="left" if name == "case" else "right")
    with exiting_on_sigterm():
        for case in CASES:
            if given.only in case.name:
                table.add_row(*row(case, measured(case, given.seconds), given.seconds))
    console = Console(width=140)
    console.print(table)
    console.print(about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
