"""Ports that a test gives away to be listened on later: no other process of tests gets one."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from workers.process import ports

_FOLDER = Path(tempfile.gettempdir()) / f"headrace-tests-ports-{os.getuid()}"
_taken: dict[int, int] = {}
"""By port: the descriptor of a file whose lock ends with this process."""


def free() -> int:
    """A port of loopback that nobody listens on; this process never gets it again."""
    _FOLDER.mkdir(exist_ok=True)
    while True:
        if _take(port := ports.free()):
            return port


def _take(port: int) -> bool:
    if port in _taken:
        return False
    descriptor = os.open(_FOLDER / str(port), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _taken[port] = descriptor
    return True
