"""Runs one suite at llama-server and through Headrace, and compares what its tests did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tests.fabric import KEY
from tests.suites.sources import CACHE
from tests.suites.suites import PLUGINS, Part, Suite
from workers.process import ports

Place = Literal["direct", "through"]
PLACES: tuple[Place, ...] = get_args(Place)
_ROOT = Path(__file__).parents[2]
_PATIENCE = 300
_TEST_SECONDS = 300
_AGAIN = 2
"""How often what passed directly alone is run again: a small model says now this, now that."""


@dataclass(frozen=True, slots=True)
class Outcome:
    outcome: str
    said: str

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


Outcomes = dict[str, Outcome]


def run(suite: Suite, names: Sequence[str] = ()) -> dict[Place, Outcomes]:
    """What each test did at each place; those that seem lost are run again. `names`: of tests."""
    found = {place: _run_at(suite, place, names) for place in PLACES}
    for _ in range(_AGAIN):
        doubtful = lost(found)
        if not doubtful:
            break
        again = {place: _run_at(suite, place, doubtful) for place in PLACES}
        for name in doubtful:
            _settle(name, found, again)
    return found


def _settle(name: str, found: dict[Place, Outcomes], again: dict[Place, Outcomes]) -> None:
    """A test that fails directly, too, or passes through, is none that is lost."""
    for place in PLACES:
        new = again[place].get(name, found[place][name])
        if new.passed != found[place][name].passed:
            found[place][name] = new


def lost(found: Mapping[Place, Outcomes]) -> list[str]:
    """Those that pass directly and not through."""
    missing = Outcome("missing", "did not run")
    return [
        name
        for name, outcome in found["direct"].items()
        if outcome.passed and not found["through"].setdefault(name, missing).passed
    ]


def _run_at(suite: Suite, place: Place, names: Sequence[str]) -> Outcomes:
    found: Outcomes = {}
    for part in suite.parts:
        chosen = [name for name in names if _belongs(name, part)]
        if names and not chosen:
            continue
        with _served(part, place) as url:
            found |= _ran(suite, part, place, url, chosen)
    return found


def _belongs(name: str, part: Part) -> bool:
    """Whether a test is one of the part; a command has them all."""
    return part.tests[0] == "node" or name.startswith(part.tests)


@contextmanager
def _served(part: Part, place: Place) -> Iterator[str]:
    """The URL of what the part's tests ask."""
    if not part.server:
        yield ""
        return
    port = ports.free()
    flags = ("--port", str(port), *part.server, *_through(place))
    with subprocess.Popen(_engine(flags), cwd=_ROOT, env=_OURS, stderr=subprocess.DEVNULL) as child:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, child)
            yield url
        finally:
            child.terminate()


_OURS = {**os.environ, "PYTHONPATH": str(_ROOT)}


def _through(place: Place) -> tuple[str, ...]:
    return ("--through",) if place == "through" else ()


def _engine(flags: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "tests.suites.engine", *flags]


def _wait(url: str, child: subprocess.Popen[bytes]) -> None:
    """Until it lists a model."""
    asked = urllib.request.Request(url + "/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and child.poll() is None:
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                if json.load(answer)["data"]:
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.1)
    raise TimeoutError(f"no server at {url}")


def _ran(suite: Suite, part: Part, place: Place, url: str, names: Sequence[str]) -> Outcomes:
    work = CACHE / "work"
    work.mkdir(parents=True, exist_ok=True)
    log = work / f"{suite.packages.folder.name}-{place}.log"
    results = work / f"{os.getpid()}-{place}.jsonl"
    results.unlink(missing_ok=True)
    node = part.tests[0] == "node"
    line = [word.format(url=url) for word in part.tests] if node else _pytest(suite, part, names)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PLUGINS),
        "SUITE_KEY": KEY,
        "SUITE_RESULTS": str(results),
        "PORT": str(ports.free()),
        "LLAMA_SERVER_BIN_PATH": str(_program(place)),
        **part.env(url),
    }
    with log.open("a") as said, (results if node else log).open("a") as out:
        _bounded(line, suite.where(), env, out.fileno(), said.fileno())
    return _canary(results) if node else _lines(results)


def _bounded(line: list[str], folder: Path, env: dict[str, str], out: int, err: int) -> None:
    """Runs a command; what it started ends with it."""
    none = subprocess.DEVNULL
    with subprocess.Popen(
        line, cwd=folder, env=env, stdin=none, stdout=out, stderr=err, start_new_session=True
    ) as child:
        try:
            child.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _pytest(suite: Suite, part: Part, names: Sequence[str]) -> list[str]:
    plugins = [word for name in ("suite_plugin", *part.plugins) for word in ("-p", name)]
    plain = ["-o", "addopts=", "-o", "filterwarnings=", "-p", "no:cacheprovider", "--tb=short"]
    python = [str(suite.packages.folder / "bin/python"), "-m", "pytest"]
    seconds = ["--timeout", str(_TEST_SECONDS)]
    return [*python, *plugins, *plain, *seconds, *part.options, *(names or part.tests)]


def _program(place: Place) -> Path:
    """What is started in llama-server's stead by tests that start it themselves."""
    program = CACHE / "work" / f"llama-server-{place}"
    words = " ".join(_engine((*_through(place), '"$@"')))
    program.write_text(f"#!/bin/sh\nPYTHONPATH={_ROOT} exec {words} 2>/dev/null\n")
    program.chmod(0o755)
    return program


def _lines(results: Path) -> Outcomes:
    """The last word on each test: a failure while it is taken down counts."""
    found: Outcomes = {}
    for text in results.read_text().splitlines() if results.exists() else ():
        line = json.loads(text)
        found[line["name"]] = Outcome(line["outcome"], line["said"])
    return found


_STATUS = {"pass": "passed", "fail": "failed", "warn": "failed"}


def _canary(results: Path) -> Outcomes:
    probes = json.loads(results.read_text())["results"]
    return {one["id"]: Outcome(_STATUS[one["status"]], one["summary"]) for one in probes}
