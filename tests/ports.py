"""Ports that a test gives away to be listened on later: no other process of tests gets one."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

from workers.process import ports

_FOLDER = Path(tempfile.gettempdir()) / f"headrace-tests-ports-{os.getuid()}"
_taken: list[IO[bytes]] = []
"""Files whose locks end with this process."""


def free() -> int:
    """A port of loopback that nobody listens on; this process never gets it again."""
    _FOLDER.mkdir(exist_ok=True)
    while True:
        if _take(port := ports.free()):
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
