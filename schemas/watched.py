"""Keeps tasks alive that work as long as their process: one that ended unseen would be missed only
much later, such as a counter that counts no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from schemas import metrics

log = structlog.get_logger("tasks")

FIRST = 0.1
LONGEST = 5.0
"""Seconds until a task that failed is begun again, doubled each time up to the longest."""
CALM = 60.0
"""Seconds without a fault after which the pause is the first again."""


async def watched(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until it returns or is cancelled. An exception is logged as an error and counted,
    and `work` begun again."""
    pause, faults = FIRST, metrics.TASK_FAULTS.labels(name)  # the first one is to be an increase
    while True:
        began = time.monotonic()
        try:
            return await work()
        except Exception as fault:
            log.error("task.failed", task=name, exc_info=fault)
            faults.inc()
        pause = FIRST if time.monotonic() - began > CALM else pause
        await asyncio.sleep(pause)
        pause = min(LONGEST, pause * 2)
