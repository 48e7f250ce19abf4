"""The nodes, as the broker's records have them, and what the hub is asked to do to them. One
connection for all pages, made when the first of them needs it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any

import orjson

from deploy.configure import Unreachable
from deploy.nodes import changes, listing
from deploy.nodes.changes import Outcome
from deploy.nodes.listing import Row
from deploy.nodes.roster import Roster
from deploy.survey import connected
from schemas import subjects
from schemas.bus import Bus, BusError
from schemas.jetstream import records
from schemas.jobs import CodecError
from schemas.nodes import Card
from schemas.settings import Nats

_HUB = 20.0
"""Seconds for the hub to put a change in force, which it waits for itself, for up to ten."""


class RollFault(Exception):
    """The nodes cannot be looked at or changed now; the message says why."""


class Roll:
    def __init__(self, login: Nats) -> None:
        self._login = login
        self._stack = contextlib.AsyncExitStack()
        self._bus: Bus | None = None
        self._lock = asyncio.Lock()

    async def rows(self, cards: Iterable[Card]) -> list[Row]:
        """All nodes, with those of `cards` that are here. Raises RollFault."""
        bus = await self._connected()
        try:
            last = await records.read(bus, subjects.NODES_STREAM)
            roster = Roster()
            roster.read(last)
        except (BusError, CodecError, TimeoutError) as fault:
            raise RollFault(f"The records of nodes cannot be read now: {fault}") from None
        nodes = [node for _, node in roster.nodes.values()]
        invites = [invite for _, invite in roster.invites.values()]
        return listing.rows(nodes, invites, cards, time.time())

    async def change(self, verb: str, name: str, by: str, **more: Any) -> Outcome:
        """Have the hub do this. `by`: the name of the key that asks. Raises RollFault."""
        bus = await self._connected()
        asked = orjson.dumps({"name": name, "by": by, **more})
        try:
            answer = await bus.request(subjects.node_change(verb), asked, timeout=_HUB)
            return changes.unpack(answer.data)
        except (BusError, TimeoutError) as fault:
            why = f"The hub does not answer: {fault}. 'headrace up' and 'headrace broker' run it."
            raise RollFault(why) from None
        except CodecError as fault:
            raise RollFault(f"The hub is of another release: {fault}") from None

    async def close(self) -> None:
        self._bus = None
        await self._stack.aclose()

    async def _connected(self) -> Bus:
        """Raises RollFault."""
        async with self._lock:
            if self._bus is None:
                opening = connected(
                    self._login.now(), "headrace-console-nodes", subjects.INBOX_MONITOR
                )
                try:
                    self._bus = await self._stack.enter_async_context(opening)
                except Unreachable as fault:
                    raise RollFault(str(fault)) from None
            return self._bus
