"""Kept answers: the last ones in memory, and all in the broker, for every ingress.

The broker may be away, or have no room: then what is in memory does alone, and nobody waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson
import structlog

from schemas import bounds, metrics, subjects, topology
from schemas.bus import Bus, BusError
from schemas.jetstream import streams
from schemas.jobs import CodecError
from schemas.settings import Cache

log = structlog.get_logger("cache")

PATIENCE = 0.25
"""Seconds in which the broker has to say what it has."""
REST = 1.0
"""Seconds for which it is not asked again after it had no answer, or no such entry."""
AGAIN = 60.0
"""Seconds until the stream is tried again that could not be made."""
AT_ONCE = 64
"""Questions to the broker at a time."""
MOST_ASKED = 256
"""Entries of one request that the broker is asked for."""
HEAD = 4096
"""Bytes of a message that are not the entry's."""
_MOST_MISSING = 4096
_OVERHEAD = 512
"""Bytes that an entry takes in memory beside its body."""


class Entry(NamedTuple):
    """`digest`: of the weights that made it. `made`: when, in Unix seconds."""

    digest: str
    content_type: str
    made: float
    body: bytes


def pack(entry: Entry) -> bytes:
    return orjson.dumps([entry.digest, entry.content_type, entry.made]) + b"\n" + entry.body


def unpack(data: bytes) -> Entry:
    """Raises CodecError."""
    head, end, body = data.partition(b"\n")
    try:
        digest, content_type, made = orjson.loads(head)
    except (orjson.JSONDecodeError, TypeError, ValueError) as fault:
        raise CodecError(f"no kept answer: {fault}") from None
    texts = bounds.is_text(digest) and bounds.is_text(content_type)
    if not (end and texts and type(made) is float and 0 <= made < bounds.WHOLE):
        raise CodecError("no kept answer: a field is missing, or has the wrong type")
    return Entry(digest, content_type, made, body)


class Local:
    """The entries that were used last, up to `room` bytes of them."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._size = 0

    def get(self, name: str) -> Entry | None:
        entry = self._entries.get(name)
        if entry is not None:
            self._entries.move_to_end(name)
        return entry

    def put(self, name: str, entry: Entry) -> None:
        self.drop(name)
        self._entries[name] = entry
        self._size += _size(entry)
        while self._size > self._room:
            self._size -= _size(self._entries.popitem(last=False)[1])
        metrics.CACHE_BYTES.set(self._size)

    def drop(self, name: str) -> None:
        if (entry := self._entries.pop(name, None)) is not None:
            self._size -= _size(entry)


def _size(entry: Entry) -> int:
    return len(entry.body) + _OVERHEAD


class Store:
    """`clock`: Unix seconds."""

    def __init__(
        self, bus: Bus, config: Cache, replicas: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._bus = bus
        self._config = config
        self._replicas = replicas
        self._clock = clock
        self._local = Local(config.memory)
        self._missing: OrderedDict[str, float] = OrderedDict()
        """Names that the broker had nothing of, and until when that is believed."""
        self._rests = self._unmade = 0.0
        self._made = False
        self._making = asyncio.Lock()

    def age(self, entry: Entry) -> float:
        """Seconds; the clocks of two ingresses may differ."""
        return max(0.0, self._clock() - entry.made)

    def here(self, name: str) -> Entry | None:
        """The entry, if it is in memory, and not too old."""
        entry = self._local.get(name)
        if entry is not None and self.age(entry) > self._config.ttl:
            self._local.drop(name)
            return None
        return entry

    async def find(self, name: str) -> Entry | None:
        if (entry := self.here(name)) is not None:
            return entry
        if not self._may_ask(name):
            return None
        subject = subjects.kept(name)
        try:
            found = await streams.newest(self._bus, subjects.CACHE_STREAM, subject, PATIENCE)
            entry = None if found is None else unpack(found[1])
        except CodecError as fault:
            log.warning("cache.undecodable", error=str(fault))
            return None
        except BusError:
            self._made = False  # the stream may be gone, or never have been
            self._rests = time.monotonic() + REST
            return None
        if (newer := self.here(name)) is not None:  # it came meanwhile
            entry = newer
        elif entry is None or self.age(entry) > self._config.ttl:
            self._note_missing(name)
            return None
        else:
            self._local.put(name, entry)
        return entry

    async def find_all(self, names: Sequence[str]) -> dict[str, Entry]:
        """Those of several that are there; the broker is asked for the first that are not here."""
        found = {name: entry for name in names if (entry := self.here(name)) is not None}
        missing = [name for name in dict.fromkeys(names) if name not in found][:MOST_ASKED]
        for at in range(0, len(missing), AT_ONCE):
            some = missing[at : at + AT_ONCE]
            asked = await asyncio.gather(*map(self.find, some))
            found |= {n: entry for n, entry in zip(some, asked, strict=True) if entry is not None}
        return found

    def keep(self, name: str, entry: Entry) -> None:
        """Have it in memory, unless it is larger than one may be."""
        if self._fits(entry):
            self._missing.pop(name, None)
            self._local.put(name, entry)

    async def share(self, name: str, entry: Entry) -> None:
        """Hand it to the broker, which need not confirm it."""
        if not self._fits(entry) or not await self._is_made():
            return
        data = pack(entry)
        if len(data) > self._bus.max_payload - HEAD:
            return
        try:
            self._bus.post(subjects.kept(name), data)
        except BusError as fault:
            log.debug("cache.not_shared", error=str(fault))

    def _fits(self, entry: Entry) -> bool:
        return len(entry.body) <= self._config.largest

    def _may_ask(self, name: str) -> bool:
        now = time.monotonic()
        if not self._bus.connected or now < self._rests:
            return False
        return now >= self._missing.get(name, 0.0)

    def _note_missing(self, name: str) -> None:
        self._missing[name] = time.monotonic() + REST
        self._missing.move_to_end(name)
        if len(self._missing) > _MOST_MISSING:
            self._missing.popitem(last=False)

    async def _is_made(self) -> bool:
        """Make the stream, if nobody asked for it before."""
        async with self._making:
            if self._made or time.monotonic() < self._unmade or not self._bus.connected:
                return self._made
            try:
                await streams.ensure(self._bus, [topology.cache(self._config, self._replicas)])
                self._made = True
            except BusError as fault:
                self._unmade = time.monotonic() + AGAIN
                log.warning("cache.memory_only", error=str(fault), again=AGAIN)
        return self._made
