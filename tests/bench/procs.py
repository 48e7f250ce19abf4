"""Processes that a measurement starts: readiness, CPU and memory from /proc, and a sure end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from workers.process import die_with_parent

ROOT = Path(__file__).parents[2]
_CLOCK = 2
"""What a process ran, in the number of a clock (linux/posix-timers.h, CPUCLOCK_SCHED)."""


class NotReady(RuntimeError):
    """A process ended or kept silent before it was ready; the message carries its last words."""


def environment() -> dict[str, str]:
    """Ours, without settings of Headrace: a measurement is told by its files alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}


class Process:
    """A running child; its output goes to `log`."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, announces: bool) -> None:
        self.name, self.log = name, log
        with log.open("ab") as sink:
            self.popen = subprocess.Popen(
                die_with_parent.wrap(argv),
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if announces else sink,
                stderr=sink,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def line(self, timeout: float) -> str:
        """The first line of stdout, of a process started with `announces`; raises NotReady."""
        assert self.popen.stdout is not None
        end, said = time.monotonic() + timeout, b""
        while b"\n" not in said:
            left = end - time.monotonic()
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0.0, left))
            piece = os.read(self.popen.stdout.fileno(), 4096) if ready else b""
            if not piece:
                raise NotReady(self._last_words(f"no line within {timeout} s"))
            said += piece
        return said.partition(b"\n")[0].decode()

    def wait_http(
        self, url: str, ready: Callable[[bytes], bool], timeout: float, **head: str
    ) -> None:
        """Return once `url` answers 2xx with a body that `ready` accepts; raises NotReady."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                raise NotReady(self._last_words(f"ended with {self.popen.returncode}"))
            with contextlib.suppress(OSError):
                if ready(get(url, headers=head)):
                    return
            time.sleep(0.02)
        raise NotReady(self._last_words(f"{url} not ready within {timeout} s"))

    def stop(self, grace: float = 5.0) -> None:
        """SIGTERM, and SIGKILL to what still runs after `grace` seconds."""
        self.popen.terminate()
        try:
            self.popen.wait(grace)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self.popen.stdout:
            self.popen.stdout.close()

    def _last_words(self, fault: str) -> str:
        words = self.log.read_text(errors="replace").strip().splitlines()[-15:]
        return "\n  ".join([f"{self.name}: {fault}", *words])


@contextlib.contextmanager
def running(
    name: str, argv: Sequence[str], log: Path, announces: bool = False
) -> Iterator[Process]:
    """Start `argv`, stop it at the end; with `announces`, its first line of stdout can be read."""
    process = Process(name, argv, log, announces)
    try:
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that every `finally` runs."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {n: signal.signal(n, leave) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid`: of all its threads, also those that have ended, exact to the
    nanosecond. Raises ProcessLookupError."""
    try:
        return time.clock_gettime_ns(~pid << 3 | _CLOCK) / 1e9
    except OSError:
        raise ProcessLookupError(f"{pid} has no clock: it has ended") from None


def rss_bytes(pid: int) -> int:
    """Resident memory of `pid` (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"{pid} has no memory: it has ended")


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """`cpu_seconds` by name."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def get(url: str, timeout: float = 2.0, headers: Mapping[str, str] | None = None) -> bytes:
    """The body of a GET; raises OSError, also for a status of 400 and above."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return bytes(reply.read())


def post(url: str, body: dict[str, Any], timeout: float = 2.0) -> Any:
    """The JSON of the reply to a POST of JSON; raises OSError as `get` does."""
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, orjson.dumps(body), head)
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return orjson.loads(reply.read())
