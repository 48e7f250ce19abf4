"""How far the journal had come, kept in another file than the journal.

A broker that finds a damaged message in a file drops it and all behind it, and says nothing
(measured: a bit flipped in the middle lost the rest). So the last sequence is written down beside
the journal by and by, and a journal that ends before it is not used.
"""

from __future__ import annotations

from schemas import subjects, topology
from schemas.bus import Bus, BusError, NotFound
from schemas.jetstream import streams


class JournalCut(BusError):
    """Entries are missing at the end of the journal; the message says what to do."""

    def __init__(self, ends: int, seen: int) -> None:
        super().__init__(
            f"the journal of credits ends at entry {ends}, but entry {seen} was written: the file "
            "is damaged, or a power cut took its end. Put a backup back ('headrace restore'), or "
            "go on with what is left ('headrace credits accept'), and start the fallbacks again"
        )


async def check(bus: Bus, replicas: int) -> None:
    """Raises JournalCut, BusError."""
    await streams.ensure(bus, [topology.credits(replicas), topology.credits_mark(replicas)])
    ends, seen = await _ends(bus), await _seen(bus)
    if ends < seen:
        raise JournalCut(ends, seen)


async def check_again(bus: Bus, told: int) -> None:
    """The broker is back: whether it has the entry `told`, of which it had told us. If not, all
    who come later are to know. Raises JournalCut, BusError."""
    try:
        ends = await _ends(bus)
    except NotFound:
        ends = 0
    if ends < told:
        if await _seen(bus) < told:
            await bus.store(subjects.CREDITS_MARK, {}, b"%d" % told)
        raise JournalCut(ends, told)


async def mark(bus: Bus) -> None:
    """Write down how far the journal has come. Raises BusError."""
    if (ends := await _ends(bus)) > await _seen(bus):
        await bus.store(subjects.CREDITS_MARK, {}, b"%d" % ends)


async def accept(bus: Bus) -> tuple[int, int]:
    """Take the journal as it is. Returns where it ends, and where it had ended."""
    ends, seen = await _ends(bus), await _seen(bus)
    await bus.store(subjects.CREDITS_MARK, {}, b"%d" % ends)
    return ends, seen


async def _ends(bus: Bus) -> int:
    return int((await streams.info(bus, subjects.CREDITS_STREAM))["state"]["last_seq"])


async def _seen(bus: Bus) -> int:
    found = await streams.newest(bus, subjects.MARK_STREAM, subjects.CREDITS_MARK, timeout=5.0)
    return int(found[1]) if found else 0
