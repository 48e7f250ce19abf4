"""A wall clock of one process that a test can step: a file holds the seconds by which it is wrong.

What is run by the monotonic clock does not notice. The shim stands in the place of `time.time`
before anything imports it; `datetime.now` is not shifted, as nothing but logs and stamps use it.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

VARIABLE = "TESTS_CLOCK"
"""The environment's variable that names the file."""
_SECONDS = struct.Struct("d")
_now = time.time
_wrong: list[mmap.mmap] = []


def _stepped() -> float:
    return _now() + (_SECONDS.unpack_from(_wrong[0])[0] if _wrong else 0.0)


def install() -> None:
    """Make the clock of this process one that can be stepped."""
    time.time = _stepped


def follow(path: str) -> None:
    """From now on, the clock is as wrong as the file says."""
    with Path(path).open("rb") as file:
        _wrong[:] = [mmap.mmap(file.fileno(), _SECONDS.size, access=mmap.ACCESS_READ)]


class Clock:
    """The clock of another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(_SECONDS.pack(0.0))

    def step(self, seconds: float) -> None:
        with self.path.open("r+b") as file:
            file.write(_SECONDS.pack(seconds))
