"""A gate before the answers of one process's echo engines, which a test opens when it has seen what
is to happen before: so nothing depends on how long that takes on a busy machine."""

from __future__ import annotations

import asyncio
import mmap
import struct
from itertools import count
from pathlib import Path

VARIABLE = "TESTS_GATE"
"""The environment's variable that names the file, which has the number of those that may pass."""
SHUT = 60_000
"""Milliseconds, as ``first_ms`` or ``token_ms``, of what waits at the gate. Without a gate that
opens, they pass as any others."""
ALL = 2**32 - 1
_MAY_PASS = struct.Struct("I")
_LOOK_AGAIN = 0.005


def follow(path: str) -> None:
    """From now on, the echo engines of this process wait at the gate of this file."""
    from workers.engines.echo import engine  # late: the clock's shim is in place by now

    with Path(path).open("rb") as file:
        shared = mmap.mmap(file.fileno(), _MAY_PASS.size, access=mmap.ACCESS_READ)
    numbers = count()

    async def wait(milliseconds: float) -> None:
        if milliseconds < SHUT:
            await asyncio.sleep(milliseconds / 1000)
            return
        loop, number = asyncio.get_running_loop(), next(numbers)
        end = loop.time() + milliseconds / 1000
        while _MAY_PASS.unpack_from(shared)[0] <= number and loop.time() < end:
            await asyncio.sleep(_LOOK_AGAIN)

    engine._wait = wait


class Gate:
    """The gate of another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(_MAY_PASS.pack(0))

    def open(self, most: int) -> None:
        """The first `most` that came, or will come, may pass."""
        with self.path.open("r+b") as file:
            file.write(_MAY_PASS.pack(most))
