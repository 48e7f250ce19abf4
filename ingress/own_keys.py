"""The keys of an ingress whose machine joined: it changes them when its record says so."""

from __future__ import annotations

import asyncio

import structlog

from schemas import subjects
from schemas.bus import Bus, BusError
from schemas.identity import Identity, NotObeyed
from schemas.registry import Node
from schemas.watched import watched

log = structlog.get_logger("own_keys")

_ASKED = 20.0
"""Seconds that the hub has to take new keys."""
_AGAIN = 5.0
"""Seconds after which it is tried again."""


class OwnKeys:
    """`bus` and `vault` are the connections that log in by them."""

    def __init__(self, identity: Identity, bus: Bus, vault: Bus | None) -> None:
        self._identity = identity
        self._bus = bus
        self._buses = [bus] if vault is None else [bus, vault]
        self._node = Node("")
        self._rotated = 0.0
        self._changed = asyncio.Event()

    def hear(self, node: Node) -> None:
        """A record: perhaps that of this ingress."""
        if node.nkey == self._identity.public and node.rotate > self._rotated:
            self._node = node
            self._changed.set()

    async def run(self) -> None:
        await watched("own_keys", self._obey)

    async def _obey(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._node.rotate <= self._rotated:  # it was heard again meanwhile
                continue
            try:
                await self._identity.rotate(self._ask)
                for bus in self._buses:
                    await bus.renew()
            except (BusError, NotObeyed) as fault:
                log.warning("own_keys.not_rotated", error=str(fault))
                await asyncio.sleep(_AGAIN)
                self._changed.set()
                continue
            self._rotated = self._node.rotate
            log.info("own_keys.rotated")

    async def _ask(self, payload: bytes) -> bytes:
        subject = subjects.rotation(self._node.name)
        return (await self._bus.request(subject, payload, timeout=_ASKED)).data
