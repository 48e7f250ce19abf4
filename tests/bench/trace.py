"""Which files of ours one request enters, in order: ``python -m tests.bench.trace [--functions]``.

Three walks: a streamed chat to llama.cpp (ingress and worker), a streamed chat with a model that
only a provider has (ingress and fallback), and the same that a worker might have taken in time.
Broker and processes are real; engine and provider are doubles. After a warm-up, the same request is
sent `REQUESTS` times, one after the other, while `trace_child` notes calls: a function belongs to
the walk if it was called for most. Heartbeats drop out, as only some of the requests fall together
with one; and so do faster timers, as they go on in a time without requests.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import itertools
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import orjson

from tests.bench import load, procs
from tests.bench.bench import MODEL, Options, mock
from tests.bench.system import Engine, System, started

WARM_UP = 3
REQUESTS = 15
OFTEN = 0.8
"""The part of the requests for which a function must be called to belong to the walk."""
TOKENS = 8
CLAIM = 0.15
"""Seconds that a worker has to take what goes to a provider then: more than one beat of
`ingress/jobs/peers.py`, so that each such request waits for one."""


@dataclass(frozen=True)
class Entered:
    """A function in a process; `at`: when it was called, in seconds of the monotonic clock."""

    process: str
    file: str
    function: str
    at: Sequence[float]

    @property
    def name(self) -> tuple[str, str, str]:
        return self.process, self.file, self.function


@dataclass(frozen=True)
class Walk:
    """What one kind of request enters, in the order first entered."""

    name: str
    entered: Sequence[Entered]

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(each.file for each in self.entered))

    def functions(self, file: str, process: str = "") -> list[str]:
        """Those of a file; in all processes if none is named."""
        here = (e for e in self.entered if e.file == file and process in ("", e.process))
        return [each.function for each in here]

    @property
    def processes(self) -> list[str]:
        return list(dict.fromkeys(each.process for each in self.entered))


def chat(work: Path) -> Walk:
    """A streamed chat to llama.cpp."""
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(mock(Options(work), slots=1, tokens=TOKENS))
        engines = [Engine("mock", engine.url)]
        program = _traced(work)
        fabric = stack.enter_context(started(work / "chat", MODEL, engines, program=program))
        return Walk("one streamed chat", _walked(work, fabric))


def provider(work: Path, claim: float = 0.0) -> Walk:
    """A streamed chat that goes to a provider: at once, or once no worker took it."""
    argv = [sys.executable, "-m", "tests.doubles.providers", "compatible"]
    argv += ["--model", MODEL, "--tokens", str(TOKENS)]
    with contextlib.ExitStack() as stack:
        process = procs.running("provider", argv, work / "provider.log", announces=True)
        url = orjson.loads(stack.enter_context(process).line(60))["base_url"]
        program = _traced(work)
        fabric = stack.enter_context(
            started(work / "paid", MODEL, [], provider=url, claim=claim, program=program)
        )
        name = "one that no worker takes in time" if claim else "one that goes to a provider"
        return Walk(name, _walked(work, fabric))


def _traced(work: Path) -> Sequence[str]:
    """The command in place of ``headrace``; {part} is put in by `started`."""
    return (sys.executable, "-m", "tests.bench.trace_child", f"{work}/{{part}}.trace")


def _walked(work: Path, fabric: System) -> list[Entered]:
    plan = load.Plan(
        [fabric.url], REQUESTS, stream=True, tokens=TOKENS, model=MODEL, key=fabric.key
    )
    parts = [part for part in fabric.pids if part != "broker"]
    with contextlib.ExitStack() as stack:
        children = {part: stack.enter_context(_child(work / f"{part}.trace")) for part in parts}
        _sent(replace(plan, requests=WARM_UP))
        began: list[float] = []
        served = _recorded(children, lambda: began.extend(_sent(plan)))
        moments = [time.monotonic() + each - began[0] for each in began]
        idle = _recorded(children, lambda: time.sleep(moments[-1] - moments[0]))
    timers = {each.name for each in idle if _usual(each, moments)}
    since = [replace(each, at=[t for t in each.at if t >= began[0]]) for each in served]
    usual = [each for each in since if each.name not in timers and _usual(each, began)]
    return sorted(usual, key=lambda each: each.at[0])


def _recorded(children: Mapping[str, Child], do: Callable[[], None]) -> list[Entered]:
    """What the children enter while something is done."""
    for child in children.values():
        child.start()
    do()
    found = [child.stop(part) for part, child in children.items()]
    return list(itertools.chain(*found))


def _usual(entered: Entered, began: Sequence[float]) -> bool:
    """Whether it was called for each request. What comes last of one may fall into the time of the
    next, so that some seem to lack it."""
    spans = {bisect.bisect_right(began, time) for time in entered.at}
    return len(spans) >= OFTEN * len(began)


def _sent(plan: load.Plan) -> list[float]:
    """When each was sent. Raises RuntimeError unless all are answered."""
    run = load.run(plan)
    if run.failed:
        raise RuntimeError(f"{len(run.failed)} requests failed, such as {run.failed[0]}")
    return [record.start for record in run.records]


class Child:
    """A process under `trace_child`."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lines = link.makefile("rb")

    def start(self) -> None:
        self._link.sendall(b"start\n")
        self._lines.readline()

    def stop(self, part: str) -> list[Entered]:
        self._link.sendall(b"stop\n")
        return [Entered(process=part, **each) for each in orjson.loads(self._lines.readline())]


@contextlib.contextmanager
def _child(path: Path) -> Iterator[Child]:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(path))
        yield Child(link)


WALKS: Sequence[Callable[[Path], Walk]] = (chat, provider, partial(provider, claim=CLAIM))


def traced(walk: Callable[[Path], Walk]) -> Walk:
    """One of `WALKS`, in a fabric of its own."""
    # Short, as a Unix socket's path may have 107 bytes.
    with procs.exiting_on_sigterm(), tempfile.TemporaryDirectory(prefix="trace-") as scratch:
        return walk(Path(scratch))


def show(walk: Walk, functions: bool) -> None:
    """A line for each file: its number, where it was entered, its name."""
    print(f"{walk.name}: {len(walk.files)} files")
    for number, file in enumerate(walk.files, 1):
        inside = {part: walk.functions(file, part) for part in walk.processes}
        print(f"{number:3} {file}  ({', '.join(part for part in inside if inside[part])})")
        if functions:
            for part, names in inside.items():
                if names:
                    print(f"      {part}: {', '.join(names)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="trace", description="The files that a request enters.")
    parser.add_argument("--functions", action="store_true", help="also the functions in each")
    options = parser.parse_args()
    for walk in map(traced, WALKS):
        show(walk, options.functions)


if __name__ == "__main__":
    main()
