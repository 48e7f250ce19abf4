"""``headrace up`` as a user runs it, and its processes as the machine sees them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60.0
"""Seconds for everything to start on a busy machine."""
LAST_LINE = "Ctrl-C stops everything."
WITHOUT_CONSOLE = {"HEADRACE_CONSOLE__ENABLED": "false"}
"""Few tests look at it, and each start of it takes two seconds of a core."""
WITH_CONSOLE = {"HEADRACE_CONSOLE__ENABLED": "true", "HEADRACE_CONSOLE__PORT": "0"}
HEADRACE = [str(Path(sys.executable).parent / "headrace")]


def environment() -> dict[str, str]:
    """Ours, without settings of the machine the tests run on."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}


def headrace(
    *arguments: str | Path, given: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """One command, run to its end. `given`: to its standard input."""
    return subprocess.run(
        [*HEADRACE, *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        env={**environment(), **variables},
        check=False,
    )


class Running:
    """A command that goes on; what it prints are events that tests wait for."""

    def __init__(
        self, command: list[str], variables: dict[str, str], folder: Path | None = None
    ) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=variables,
            cwd=folder,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def says(self, text: str, start: int = 0) -> int:
        """Wait for a line with `text`, from line number `start` on; the number after it."""

        def found() -> int:
            numbers = (n for n, line in enumerate(self.lines) if n >= start and text in line)
            return next(numbers, -1) + 1

        with self._news:
            in_time = self._news.wait_for(lambda: found() or not self._reader.is_alive(), PATIENCE)
        assert in_time, f"not said within {PATIENCE:g} s: {text}\n{self.text}"
        assert found(), f"ended without saying {text}:\n{self.text}"
        return found()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Signal it; the exit code once it has ended."""
        self._process.send_signal(number)
        code = self._process.wait(PATIENCE)
        self._reader.join()
        return code

    def reap(self) -> None:
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


class HeadraceUp(Running):
    """A running ``headrace up``."""

    def __init__(self, data: Path, *arguments: str, **variables: str) -> None:
        self.data = data
        command = [*HEADRACE, "up", "--data", str(data), *arguments]
        super().__init__(command, {**environment(), **WITHOUT_CONSOLE, **variables})

    def after(self, title: str, count: int = 1) -> list[str]:
        """The lines below a title."""
        at = next(number for number, line in enumerate(self.lines) if line.startswith(title))
        return self.lines[at + 1 : at + 1 + count]

    @property
    def url(self) -> str:
        return next(line.split()[-1] for line in self.lines if "base URL" in line)


@contextmanager
def up(data: Path, *arguments: str, **variables: str) -> Iterator[HeadraceUp]:
    """It runs and has said everything; nothing of it is left after the block."""
    made = HeadraceUp(data, "--port", "0", *arguments, **variables)
    try:
        made.says(LAST_LINE)
        yield made
    finally:
        made.reap()


def descendants(pid: int) -> dict[int, str]:
    """The descendants of a process and their command lines."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(stat[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [*parents.get(pid, ())]
    while waiting:
        child = waiting.pop()
        waiting += parents.get(child, ())
        with contextlib.suppress(OSError):
            raw = Path(f"/proc/{child}/cmdline").read_bytes()
            found[child] = raw.replace(b"\0", b" ").decode()
    return found


def descendant(pid: int, *words: str) -> int:
    """The descendant whose command line has all these words."""
    found = [each for each, line in descendants(pid).items() if all(word in line for word in words)]
    assert len(found) == 1, descendants(pid)
    return found[0]


class Handles:
    """Processes by descriptor: a pid may be given to another, a descriptor is not."""

    def __init__(self, pids: Iterator[int] | list[int]) -> None:
        self._open = [os.pidfd_open(pid) for pid in pids]

    def __len__(self) -> int:
        return len(self._open)

    def wait(self, patience: float) -> bool:
        """Whether all of them have ended within `patience` seconds."""
        ended = all(select.select([each], [], [], patience)[0] for each in self._open)
        for each in self._open:
            os.close(each)
        return ended
