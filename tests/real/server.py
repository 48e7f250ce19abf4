"""A real engine's server as a child of the tests, and what it says."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60.0


class Server:
    """`log`: the lines that it has said; its output is a terminal's, thus not held back."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.url = url
        self.process = process
        self.log: list[str] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(terminal,), daemon=True).start()

    def wait(self, text: str, skip: int = 0) -> None:
        """Until a line after the first `skip` holds `text`."""
        with self._news:
            self._news.wait_for(lambda: self._has(text, skip) or not self.alive, PATIENCE)
        assert self._has(text, skip), f"no {text!r} in: {self.log[skip:]}"

    def _has(self, text: str, skip: int) -> bool:
        return any(text in line for line in self.log[skip:])

    async def said(self, text: str, skip: int = 0) -> None:
        await asyncio.to_thread(self.wait, text, skip)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def _read(self, terminal: int) -> None:
        try:
            with open(terminal, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    with self._news:
                        self.log.append(line.rstrip())
                        self._news.notify_all()
        except OSError as fault:
            # A terminal that nobody holds open any more ends so.
            if fault.errno != errno.EIO:
                raise
        with self._news:
            self._news.notify_all()


@contextmanager
def running(
    command: Sequence[str], port: int, ready: str, home: Path | None = None
) -> Iterator[Server]:
    """The server of `command`, which listens on `port` and says `ready` then, for the block.

    `home`: the directory that it works in.
    """
    ours, its = pty.openpty()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=its, stderr=its, cwd=home
    ) as process:
        os.close(its)
        try:
            server = Server(f"http://127.0.0.1:{port}", process, ours)
            server.wait(ready)
            yield server
        finally:
            process.kill()
