"""Gives memory that Python has freed back to the system.

glibc keeps what lies below something that is still in use. A body comes in pieces of 64 KiB, and
behind those of a few large bodies there is always something: 30 bodies of 31 MB left 100 MB behind.
"""

from __future__ import annotations

import asyncio

from schemas import heap

ENOUGH = 16 * 2**20
"""Freed bytes after which it is worth a look (measured: 3 ms if there is much, 0.02 if nothing)."""
PAUSE = 1.0
"""Seconds from then to the look: more may be freed meanwhile."""
LAST = 5.0
"""Seconds from then to another look, for what was freed behind the first and is not enough."""


class Heap:
    def __init__(self) -> None:
        self._freed = 0
        self._trim = heap.trimmer()

    def freed(self, size: int) -> None:
        """So many bytes are about to be freed. Needs a running loop."""
        before, self._freed = self._freed, self._freed + size
        if before < ENOUGH <= self._freed:
            loop = asyncio.get_running_loop()
            loop.call_later(PAUSE, self._look)
            loop.call_later(LAST, self._trim, 0)

    def _look(self) -> None:
        self._freed = 0
        self._trim(0)
