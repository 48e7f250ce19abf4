"""What clients notice of dead, frozen and slow engines, through Headrace and through routers.

    scripts/bench faults [--runs 3] [--system NAME …] [--fault NAME …]

Each run has two mock engines of its own, whose streams say ``w0 w1 …`` and go on behind a begun
answer, and a system of its own in front of them, with its usual settings.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from tests.bench import load, report, routers
from tests.bench.bench import MODEL, Mock, Options, mock
from tests.bench.ideal import Backend, ttft
from tests.bench.load import Plan, Record, Run
from tests.bench.procs import NotReady, exiting_on_sigterm
from tests.bench.stats import percentile
from tests.bench.system import Engine, System
from tests.doubles.llamacpp.wire import text

STREAMS, TOKENS, TOKEN_MS = 12, 150, 30.0
BLOW = 1.5
"""Seconds after the start of all streams at which one engine is struck."""
EARLY, EARLY_MS, EARLY_BLOW = 2, 6000.0, 0.3
"""Tokens of answers whose first one is still to come, their pace, and when one engine is struck."""
PATIENCE = 25.0
"""Seconds after which a stream hangs for good."""
ASKED, BEFORE, SHORT, SHORT_MS = 240, 40, 8, 5.0
"""Requests of which one engine dies, how many of them before that, their tokens and their pace."""
BURST, SLOTS, LENGTH = 64, 4, 32
PACES = {"fast": 10.0, "slow": 40.0}
WARM_SECONDS, WARM_MS = 60.0, 10.0


@dataclass
class Found:
    """What the runs of one fault were for one system."""

    whole: int = 0
    streams: int = 0
    struck: int = 0
    told: int = 0
    hung: int = 0
    gaps: list[float] = field(default_factory=list)
    failed: int = 0
    asked: int = 0
    added: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    """What clients saw of those that failed."""

    def said(self) -> str:
        """In a line."""
        parts = []
        if self.streams:
            parts.append(f"whole {self.whole} of {self.streams} ({self.struck} struck)")
            broken = self.streams - self.whole - self.hung
            parts.append(f"broken {broken}, of them told {self.told}")
            parts.append(f"hung over {PATIENCE:.0f} s: {self.hung}")
        if self.gaps:
            half, most = percentile(self.gaps, 0.5), percentile(self.gaps, 0.95)
            parts.append(f"gap p50 {half:.2f} s, p95 {most:.2f} s, of {len(self.gaps)}")
        if self.asked:
            parts.append(f"failed {self.failed} of {self.asked}")
        if self.added:
            shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
            told = (f"{n} {percentile(self.added, s) * 1000:.0f}" for n, s in shares.items())
            parts.append(f"added ms: {', '.join(told)}")
        if self.ratios:
            parts.append("times ideal: " + ", ".join(f"{ratio:.2f}" for ratio in self.ratios))
        return "; ".join(parts)


@dataclass
class Stand:
    """A system and its engines, warm."""

    system: System
    engines: list[Mock]

    def plan(self, requests: int, tokens: int, **more: object) -> Plan:
        fixed = {"model": MODEL, "key": self.system.key, "tokens": tokens, "timeout": PATIENCE}
        expect = {"expect": text(tokens)}
        return Plan([self.system.url], requests, **{**fixed, **expect, **more})  # type: ignore[arg-type]

    def strike(self, plan: Plan, begun: int, blow: Blow) -> Struck:
        """Carry out `plan`, and strike one engine once so many requests have begun. That is the
        first one, unless it has none."""
        marks = [engine.last() for engine in self.engines]
        runs: list[Run] = []
        running = threading.Thread(target=lambda: runs.append(load.run(plan)))
        running.start()
        taken = 0
        while running.is_alive() and taken < begun:
            time.sleep(0.01)
            taken = sum(map(_begun, self.engines, marks))
        time.sleep(blow.after)
        busy = list(map(_running, self.engines, marks))
        victim = 0 if busy[0] else 1
        at = time.monotonic()
        for pid in blow.victims(self, victim):
            os.kill(pid, blow.sign)
        running.join()
        numbers = {int(number) for number in busy[victim] if number}
        again = _again(self.engines[1 - victim], marks[1 - victim], at, busy[victim])
        return Struck(runs[0], at, len(busy[victim]), numbers, again)


@dataclass(frozen=True)
class Blow:
    """`machine`: the worker beside the engine is struck, too, if there is one."""

    sign: signal.Signals
    after: float = 0.0
    machine: bool = False

    def victims(self, stand: Stand, number: int) -> list[int]:
        worker = stand.system.pids.get(f"worker {NAMES[number]}")
        return [stand.engines[number].pid, *([worker] if self.machine and worker else [])]


@dataclass(frozen=True)
class Struck:
    """`count`: how many requests the struck engine was working on; `numbers`: which, as far as the
    system told it; `again`: seconds from the blow to the other engine's having them."""

    run: Run
    at: float
    count: int
    numbers: set[int]
    again: list[float]


NAMES = tuple(PACES)


def _begun(engine: Mock, mark: int) -> int:
    return sum(event["event"] == "start" for event in engine.events(mark))


def _again(engine: Mock, mark: int, at: float, labels: Collection[str]) -> list[float]:
    begun = (e for e in engine.events(mark) if e["event"] == "start" and e["label"] in labels)
    times = (float(event["t_monotonic"]) for event in begun)
    return [time - at for time in times if time > at]


def _running(engine: Mock, mark: int) -> list[str]:
    """The labels of the requests that it works on, empty ones too."""
    told = engine.events(mark)
    over = {event["id"] for event in told if event["event"] in ("end", "abort")}
    begun = [event for event in told if event["event"] == "start"]
    return [str(event["label"] or "") for event in begun if event["id"] not in over]


@contextlib.contextmanager
def _stand(
    name: str, work: Path, slots: int, tokens: int, paces: Sequence[float]
) -> Iterator[Stand]:
    work.mkdir(parents=True)
    options, given = Options(work), {"slots": slots, "tokens": tokens}
    with contextlib.ExitStack() as stack:
        engines = [
            stack.enter_context(mock(options, each, token_ms=WARM_MS, continues=True, **given))
            for each in NAMES
        ]
        named = [
            Engine(each, engine.url, number)
            for number, (each, engine) in enumerate(zip(NAMES, engines, strict=True))
        ]
        if paces[0] == paces[1]:
            named = [Engine(each.name, each.url) for each in named]
        stand = Stand(stack.enter_context(routers.started(name, work / name, named)), engines)
        stack.callback(_thaw, stand)
        _warm(stand, slots)
        for engine, pace in zip(engines, paces, strict=True):
            engine.set(token_ms=pace)
        yield stand


def _thaw(stand: Stand) -> None:
    """What is frozen could not be stopped."""
    for pid in (*(engine.pid for engine in stand.engines), *stand.system.pids.values()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _warm(stand: Stand, slots: int) -> None:
    """Send until both engines have worked; raises TimeoutError if one never does."""
    end = time.monotonic() + WARM_SECONDS
    plan = stand.plan(3 * slots, 4, concurrency=3 * slots, stream=True, expect="")
    while time.monotonic() < end:
        load.run(plan)
        if all(engine.last() for engine in stand.engines):
            return
    raise TimeoutError(f"an engine got no work within {WARM_SECONDS} s")


def _streams(blow: Blow) -> Callable[[str, Path, Found], None]:
    def measure(name: str, work: Path, found: Found) -> None:
        with _stand(name, work, STREAMS, TOKENS, [TOKEN_MS] * 2) as stand:
            plan = stand.plan(STREAMS, TOKENS, concurrency=STREAMS, stream=True, timed=True)
            seen = stand.strike(plan, STREAMS, blow)
        failed = seen.run.failed
        hung = [record for record in failed if record.fault.startswith("TimeoutError")]
        found.streams += STREAMS
        found.struck += seen.count
        found.whole += STREAMS - len(failed)
        found.hung += len(hung)
        found.told += sum('"error"' in record.fault for record in failed if record not in hung)
        found.faults.update(record.fault[-120:] for record in failed)
        whole = [r for r in seen.run.records if r.number in seen.numbers and r not in failed]
        found.gaps += [_gap(record, seen.at) for record in whole]

    return measure


def _gap(record: Record, since: float) -> float:
    """Seconds from the blow to the next token."""
    return min((at for at in record.times if at > since), default=since) - since


def _early(blow: Blow) -> Callable[[str, Path, Found], None]:
    """Nothing of the answers is there yet."""

    def measure(name: str, work: Path, found: Found) -> None:
        with _stand(name, work, STREAMS, EARLY, [EARLY_MS] * 2) as stand:
            plan = stand.plan(STREAMS, EARLY, concurrency=STREAMS, stream=True, timed=True)
            seen = stand.strike(plan, STREAMS, blow)
        found.streams += STREAMS
        found.struck += seen.count
        found.whole += STREAMS - len(seen.run.failed)
        found.faults.update(record.fault[-120:] for record in seen.run.failed)
        found.gaps += seen.again

    return measure


def dead(name: str, work: Path, found: Found) -> None:
    """Requests that are sent when one engine is dead already, and nobody has noticed yet."""
    with _stand(name, work, STREAMS, SHORT, [SHORT_MS] * 2) as stand:
        plan = stand.plan(ASKED, SHORT, concurrency=4, timed=True)
        seen = stand.strike(plan, BEFORE, Blow(signal.SIGKILL))
    before = [record.latency for record in seen.run.records if (record.end or 0) < seen.at]
    after = [record for record in seen.run.records if record.start >= seen.at]
    failed = [record for record in seen.run.failed if record in after]
    found.asked += len(after)
    found.failed += len(failed)
    found.faults.update(record.fault[-120:] for record in failed)
    usual = percentile(before, 0.5)
    found.added += [record.latency - usual for record in after if record not in failed]


def burst(name: str, work: Path, found: Found) -> None:
    """As many requests at once as fill two unequal engines eight times."""
    with _stand(name, work, SLOTS, LENGTH, list(PACES.values())) as stand:
        run = load.run(stand.plan(BURST, LENGTH, concurrency=BURST, stream=True))
    backends = [Backend(SLOTS, pace / 1000) for pace in PACES.values()]
    ideal = ttft([0.0] * BURST, [LENGTH] * BURST, backends)
    found.asked += BURST
    found.failed += len(run.failed)
    waits = [record.ttft for record in run.records if record not in run.failed]
    found.ratios.append(percentile(waits, 0.99) / percentile(ideal, 0.99))


FAULTS: dict[str, Callable[[str, Path, Found], None]] = {
    "killed": _streams(Blow(signal.SIGKILL, BLOW)),
    "dead": dead,
    "burst": burst,
    "frozen": _streams(Blow(signal.SIGSTOP, BLOW)),
    "killed machine": _streams(Blow(signal.SIGKILL, BLOW, machine=True)),
    "frozen machine": _streams(Blow(signal.SIGSTOP, BLOW, machine=True)),
    "killed machine early": _early(Blow(signal.SIGKILL, EARLY_BLOW, machine=True)),
    "frozen machine early": _early(Blow(signal.SIGSTOP, EARLY_BLOW, machine=True)),
}
"""Machines are for Headrace alone, where a worker stands beside the engine."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench faults")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--system", action="append", choices=routers.SYSTEMS)
    parser.add_argument("--fault", action="append", choices=list(FAULTS))
    given = parser.parse_args()
    systems = given.system or list(routers.SYSTEMS)
    for name in set(systems) & set(routers.ROUTERS):
        routers.ROUTERS[name].packages.install()
    for name, value in report.about(["scripts/bench", "faults", *sys.argv[1:]]).items():
        print(f"{name}: {value}")
    for name in sorted(set(systems) & set(routers.ROUTERS)):
        print(routers.ROUTERS[name].packages.versions())
    with exiting_on_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-faults-") as scratch:
        for fault in given.fault or FAULTS:
            for name in systems:
                if "machine" not in fault or name == routers.HEADRACE:
                    print(
                        f"{fault}, {name}: {_runs(fault, name, given.runs, Path(scratch))}",
                        flush=True,
                    )
    return 0


def _runs(fault: str, name: str, runs: int, work: Path) -> str:
    found, broken = Found(), list[str]()
    for number in range(runs):
        try:
            FAULTS[fault](name, work / f"{fault}-{name}-{number}", found)
        except (NotReady, TimeoutError) as why:
            broken.append(str(why))
    for seen, times in found.faults.most_common(2):
        print(f"  {times} × {seen!r}", file=sys.stderr)
    return "; ".join(chain([found.said()], broken))


if __name__ == "__main__":
    sys.exit(main())
