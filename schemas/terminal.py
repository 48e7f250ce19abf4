"""Lines for people on stderr, written by a thread of their own.

A terminal that is stopped with Ctrl-S must not stop the process, and one that is gone must not end
it.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from contextlib import suppress

MOST = 10_000
"""Lines that wait for the terminal; past that they are lost."""
LAST_WORDS = 1.0
"""Seconds that the end of the process waits for the last lines."""


class Terminal:
    """A file of text, as structlog wants it. The thread begins with the first line."""

    def __init__(self, descriptor: int) -> None:
        self._out = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(MOST)
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        with suppress(queue.Full):
            self._lines.put_nowait(text)

    def flush(self) -> None:
        """Does nothing: whoever writes must not wait."""

    def close(self) -> None:
        """Wait for what was written, but not for long."""
        atexit.unregister(self.close)
        if self._thread is None:
            return
        if self._lines.full():  # the end must be told, whatever is lost for it
            with suppress(queue.Empty):
                self._lines.get_nowait()
        self._lines.put(None)
        self._thread.join(LAST_WORDS)

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            rest = text.encode(errors="replace")
            with suppress(OSError):  # the terminal is gone
                while rest:
                    rest = rest[os.write(self._out, rest) :]
