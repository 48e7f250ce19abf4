"""Gives back what large requests and answers have left in the heap of a worker or a fallback.

What they are made of comes in many pieces, parsed ones among them, of which something always stays
in use: a document of 16 MiB of brackets left 77 MiB behind.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from math import inf
from pathlib import Path

from schemas import heap

ENOUGH = 24 * 2**20
"""Bytes above the least that this process ever had, for which a look is worth some ms."""
EACH, SELDOM = 2.0, 60.0
"""Seconds between two looks, and most of them: each look that gives little back doubles them, as
what is in use stays, however often it is looked for."""
_STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of memory that this process has now; 0 if the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


class Heap:
    """`measure`: bytes of memory that the process has. `trim`: has the system get back what is
    free."""

    def __init__(
        self,
        measure: Callable[[], int] = resident,
        trim: Callable[[int], object] | None = None,
    ) -> None:
        self._measure = measure
        self._trim = trim or heap.trimmer()
        self._least = inf
        self._looked = -inf
        self._wait = EACH

    def look(self, now: float) -> None:
        """To be called twice a second. `now`: monotonic seconds."""
        size = self._measure()
        self._least = min(self._least, size)
        if size < self._least + ENOUGH or now - self._looked < self._wait:
            return
        if not gc.isenabled():  # something large is being read
            return
        self._looked = now
        gc.collect()  # an error and what it was raised in hold each other, and the answer with them
        self._trim(0)
        given = size - self._measure()
        self._wait = EACH if given >= ENOUGH // 4 else min(2 * self._wait, SELDOM)
