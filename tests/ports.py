"""Ports that a test gives away to be listened on later. Nobody else takes one meanwhile: it is
below those that the kernel hands out, and no other process of tests gets it."""

from __future__ import annotations

import fcntl
import random
import tempfile
from pathlib import Path
from typing import IO

from workers.process import ports

_FIRST, _LAST = 20_000, 32_000
"""Below what Linux (from 32768 on) and others (from 49152 on) hand out."""
_FOLDER = Path(tempfile.gettempdir()) / "headrace-tests-ports"
_taken: list[IO[bytes]] = []
"""Files whose locks end with this process."""


def free() -> int:
    """A port of loopback that nobody listens on; this process never gets it again."""
    _FOLDER.mkdir(exist_ok=True)
    while True:
        port = random.randrange(_FIRST, _LAST)
        if _take(port) and not ports.taken(port):
            return port


def _take(port: int) -> bool:
    if any(file.name.endswith(f"/{port}") for file in _taken):
        return False
    file = (_FOLDER / str(port)).open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _taken.append(file)
    return True
