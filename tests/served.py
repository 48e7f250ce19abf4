"""What workers served, as the broker keeps it."""

from __future__ import annotations

from schemas import subjects
from schemas.bus import Bus
from schemas.jetstream import reading
from schemas.usage import Served, Windows, rows


async def served(bus: Bus) -> list[Served]:
    """All rows of the stream."""
    windows, found = Windows(), list[Served]()
    async for message in reading.read_rolled(bus, subjects.USAGE_STREAM):
        if (counts := windows.take(message)) is not None:
            found += rows(counts)
    return found + [row for message in windows.rest() for row in rows(message)]
