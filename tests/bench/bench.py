"""What the figures share: the mock engines, the runs, and the reading of processes around them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from tests.bench import load, procs
from tests.bench.system import System
from tests.doubles.llamacpp.wire import text

MODEL = "mock"


@dataclass(frozen=True)
class Options:
    """`quick`: a tenth of the requests; good to see that all works, not to be published."""

    work: Path
    quick: bool = False
    seed: int = 1
    tokens: int = 32

    def count(self, requests: int) -> int:
        """`requests`, or fewer of them in a quick run."""
        return max(20, requests // 10) if self.quick else requests


@dataclass(frozen=True)
class Mock:
    """A running mock of llama-server."""

    url: str
    pid: int

    def set(self, **settings: Any) -> None:
        """Change settings for the requests to come."""
        procs.post(self.url + "/mock/settings", settings)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """What happened since the event `after`."""
        told: list[dict[str, Any]] = orjson.loads(
            procs.get(f"{self.url}/mock/events?after={after}", timeout=10)
        )
        return told

    def last(self) -> int:
        """The number of the latest event; 0 before the first."""
        return max((int(event["seq"]) for event in self.events()), default=0)


@contextlib.contextmanager
def mock(options: Options, name: str = "mock", **settings: Any) -> Iterator[Mock]:
    """A mock of llama-server with `settings` (`slots`, `token_ms`, `tokens`), until the end."""
    argv = [sys.executable, "-m", "tests.doubles.llamacpp.server", "--model", MODEL]
    for setting, value in settings.items():
        argv += ["--" + setting.replace("_", "-"), *([] if value is True else [str(value)])]
    log = options.work / f"{name}.log"
    with procs.running(name, argv, log, announces=True) as process:
        yield Mock(orjson.loads(process.line(60))["url"], process.pid)


@dataclass(frozen=True)
class Measured:
    """A run, and the CPU seconds of each process during it, per request."""

    run: load.Run
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        """Good replies a second."""
        return (len(self.run.records) - len(self.run.failed)) / self.run.seconds

    def total(self, pids: Collection[str]) -> float:
        """CPU seconds per request of the processes named."""
        return sum(self.cpu[name] for name in pids)


@dataclass
class Bench:
    """One system with one mock behind it; counts what went through its ingress."""

    options: Options
    engine: Mock
    fabric: System
    served: int = 0

    def plan(self, requests: int, **more: Any) -> load.Plan:
        """A plan for the fabric; the text of each reply is held to the mock's."""
        tokens = self.options.tokens
        common: dict[str, Any] = {
            "seed": self.options.seed,
            "tokens": tokens,
            "key": self.fabric.key,
        }
        common |= {"expect": text(tokens)}
        return load.Plan([self.fabric.url], requests, model=MODEL, **(common | more))

    def straight(self, plan: load.Plan) -> load.Plan:
        """The same for the engine."""
        return replace(plan, urls=[self.engine.url])

    def run(self, plan: load.Plan) -> load.Run:
        """Carry out `plan`."""
        if self.fabric.url in plan.urls:
            self.served += plan.requests // len(plan.urls)
        return load.run(plan)

    def warm(self, plan: load.Plan, requests: int = 200) -> None:
        """Carry out a little of `plan` for nothing: connections, caches, code paths."""
        self.run(replace(plan, requests=requests))

    def measure(self, plan: load.Plan) -> Measured:
        """Carry out `plan` and see what it cost each process."""
        pids = self.fabric.pids | {"engine": self.engine.pid}
        before = procs.cpu_of(pids)
        done = self.run(plan)
        after = procs.cpu_of(pids)
        cpu = {name: (after[name] - before[name]) / plan.requests for name in pids}
        return Measured(done, cpu | {"load": done.cpu / plan.requests})
