"""Reads what workers served out of the stream of usage, and sums it up as it comes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from schemas import subjects
from schemas.bus import Bus, Message
from schemas.jetstream import reading
from schemas.tally import Tally
from schemas.usage import Windows, rows

_LATE = 300.0
"""Seconds by which rows may be written after what they count, and clocks may differ."""


async def count(bus: Bus, tally: Tally) -> None:
    """Count all that the question of `tally` asks for. Raises BusError."""
    windows, question = Windows(), tally.question
    found = reading.read_rolled(bus, subjects.USAGE_STREAM, since=question.since)
    async with aclosing(found):
        async for message in found:
            if _written(message) > question.until + _LATE:
                break
            if (counts := windows.take(message)) is not None:
                _add(counts, tally)
            await asyncio.sleep(0)  # a year of rows must not hold up the requests here
    for message in windows.rest():
        _add(message, tally)


def _add(message: Message, tally: Tally) -> None:
    for row in rows(message):
        tally.served(row, _written(message))


def _written(message: Message) -> float:
    return subjects.place_of(message.reply)[1] / 1e9
