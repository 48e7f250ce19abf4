"""When the loops of an ingress look at what they watch: at the same moments, and seldom while there
is nothing to see. Each time that a quiet process is woken up costs it 50 to 100 µs (measured)."""

from __future__ import annotations

import asyncio
import contextlib
import os

CALM = 0.25
"""Seconds between two looks while nothing can be due within that time."""

SOON = 0.05
"""Seconds after which a job is looked at that begins to wait meanwhile."""

OFFSET = int.from_bytes(os.urandom(2), "big") / 2**16
"""Seconds by which the moments of this process are its own: the event loop's clock is that of the
machine, and other ingresses of it would wake up at the same ones."""


def until_next(period: float) -> float:
    """Seconds until the event loop's clock is at a multiple of `period`, but for `OFFSET`: so
    timers of several loops go off together. It is half of one at least, as a timer may go off a
    little early."""
    if not period:
        return 0.0
    left = period - (asyncio.get_running_loop().time() + OFFSET) % period
    return left if left > period / 2 else left + period


async def regularly(period: float) -> None:
    """Return at the next multiple of `period` seconds."""
    await asyncio.sleep(until_next(period))


async def calmly(news: asyncio.Event) -> None:
    """Return at the next multiple of `CALM`, or with `news`."""
    news.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(until_next(CALM)):
            await news.wait()
