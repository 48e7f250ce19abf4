"""Where the records of limits are kept: in the broker's account with the keys, for all ingresses,
or in this process alone."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

from schemas import subjects, topology
from schemas.bus import ApiError, Bus, BusError
from schemas.jetstream import streams
from schemas.jetstream.streams import AFTER, MOVED_ON
from schemas.jetstream.words import seconds

ANSWER = 2.0
"""Seconds that the broker has for one answer."""


class Overtaken(Exception):
    """Another ingress wrote the record meanwhile."""


class Store(Protocol):
    """Every call raises BusError if the store is away."""

    async def read(self, subject: str) -> tuple[int, bytes]:
        """(place, data) of the last record; (0, b"") if there is none."""

    async def write(self, subject: str, after: int, data: bytes) -> int:
        """Write the record that follows the one at the place `after`; returns its place. Raises
        Overtaken; after a BusError nobody knows whether it was written."""

    async def time(self) -> int:
        """Milliseconds of the store's clock."""


class Vault:
    """The stream LIMITS. It is made when it is first needed, and anew if the broker lost it."""

    def __init__(self, bus: Bus, replicas: int) -> None:
        self._bus = bus
        self._wanted = [topology.limits(replicas)]
        self._made = False

    async def read(self, subject: str) -> tuple[int, bytes]:
        async with self._ready():
            found = await streams.newest(self._bus, subjects.LIMITS_STREAM, subject, ANSWER)
        return found or (0, b"")

    async def write(self, subject: str, after: int, data: bytes) -> int:
        async with self._ready():
            try:
                told = await self._bus.store(subject, {AFTER: str(after)}, data, ANSWER)
            except ApiError as fault:
                if fault.code == MOVED_ON:
                    raise Overtaken(subject) from None
                raise
        return int(told["seq"])

    async def time(self) -> int:
        async with self._ready():
            info = await streams.info(self._bus, subjects.LIMITS_STREAM)
        return round(seconds(info["ts"]) * 1000)

    @asynccontextmanager
    async def _ready(self) -> AsyncGenerator[None, None]:
        if not self._bus.connected:  # a question would wait for its time limit
            raise BusError("the broker is away")
        try:
            if not self._made:
                await streams.ensure(self._bus, self._wanted)
                self._made = True
            yield
        except BusError:
            self._made = False
            raise


class Alone:
    """Records of this process, for an ingress that has no login for the broker's."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, bytes]] = {}
        self._began = time.time() - time.monotonic()  # a step of the clock changes nothing

    async def read(self, subject: str) -> tuple[int, bytes]:
        return self._kept.get(subject, (0, b""))

    async def write(self, subject: str, after: int, data: bytes) -> int:
        if self._kept.get(subject, (0, b""))[0] != after:
            raise Overtaken(subject)
        self._kept[subject] = after + 1, data
        return after + 1

    async def time(self) -> int:
        return round((self._began + time.monotonic()) * 1000)
