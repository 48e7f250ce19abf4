"""How long a process of a test holds its event loop at once, in its thread's own CPU time: so what
else runs on the machine does not count."""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

VARIABLE = "TESTS_HELD"
"""The environment's variable that names the file with the longest hold."""
_SECONDS = struct.Struct("d")
_TICK = 0.001


def watch(path: str) -> None:
    """From now on, write down the longest hold of the loop that this process runs."""
    with Path(path).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), _SECONDS.size)
    run = asyncio.Runner.run

    def watched(self: asyncio.Runner, work: Coroutine[Any, Any, Any], **more: Any) -> Any:
        return run(self, _beside(work, shared), **more)

    asyncio.Runner.run = watched  # type: ignore[assignment, method-assign]


async def _beside(work: Coroutine[Any, Any, Any], shared: mmap.mmap) -> Any:
    beat = asyncio.create_task(_beat(shared))
    try:
        return await work
    finally:
        beat.cancel()


async def _beat(shared: mmap.mmap) -> None:
    before = time.thread_time()
    while True:
        await asyncio.sleep(_TICK)
        now = time.thread_time()
        if now - before > _SECONDS.unpack_from(shared)[0]:
            _SECONDS.pack_into(shared, 0, now - before)
        before = now


class Held:
    """The longest hold of another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                file.write(_SECONDS.pack(0.0))
        else:
            self.path.write_bytes(_SECONDS.pack(0.0))

    @property
    def longest(self) -> float:
        """Seconds."""
        return float(_SECONDS.unpack(self.path.read_bytes())[0])
