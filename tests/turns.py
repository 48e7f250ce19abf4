"""How long a task holds the event loop at once."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any


async def longest_turn(task: asyncio.Future[Any]) -> tuple[float, float]:
    """(the longest turn of the loop until `task` is done, all turns), in seconds of this thread's
    CPU, without collections of garbage, which go through all that other tests left."""
    longest = whole = 0.0
    gc.disable()
    try:
        while not task.done():
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, turn := time.thread_time() - began)
            whole += turn
    finally:
        gc.enable()
    return longest, whole
