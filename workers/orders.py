"""What the hub says of this process' node, and how it is obeyed."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from schemas import registry
from schemas.bus import BusError
from schemas.identity import Identity, NotObeyed
from schemas.jobs import CodecError
from schemas.registry import Order

log = structlog.get_logger("orders")

_AGAIN = 0.5
_AGAIN_MAX = 30.0
"""Seconds after which an order is tried again that could not be obeyed, doubled each time."""


class Process(Protocol):
    """What obeys."""

    async def pause(self, paused: bool) -> None:
        """Take no jobs, or take them again. Raises BusError."""

    async def pull_again(self) -> None:
        """Ask for jobs anew: what was asked for before may have been denied. Raises BusError."""

    async def renew(self) -> None:
        """Connect anew, with the keys as they are kept. Raises BusError."""

    async def ask(self, payload: bytes) -> bytes:
        """As `identity.Ask`."""

    def leave(self) -> None:
        """Finish what there is, and come back by the name that is kept."""


class Orders:
    """Hears orders, and obeys the last one. The hub repeats an order until the card shows that it
    was heard, so it holds over reconnections and restarts, and one that is lost comes again."""

    def __init__(self, node: str, process: Process, identity: Identity | None = None) -> None:
        """`identity`: None for a process that uses a login of the hub's own machine. Its keys and
        its name are not the hub's to change."""
        self._process = process
        self._identity = identity
        self._order = Order(node)
        """The last one."""
        self._obeyed = self._order
        self._changed = asyncio.Event()

    @property
    def drained(self) -> bool:
        """The node is to finish what it has, and take nothing more."""
        return self._order.drained

    def hear(self, given: bytes) -> None:
        try:
            order = registry.unpack(Order, given)
        except CodecError as fault:
            log.warning("orders.undecodable", error=str(fault))
            return
        if order is None or order == self._order:
            return
        self._order = order
        self._changed.set()

    async def obey(self) -> None:
        """Do what is ordered, for as long as the process lives."""
        pause = 0.0
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._obey(self._order)
                pause = 0.0
            except (BusError, NotObeyed) as fault:
                log.warning("orders.not_obeyed", error=str(fault))
                pause = min(_AGAIN_MAX, pause * 2) or _AGAIN
                await asyncio.sleep(pause)
                self._changed.set()

    async def _obey(self, order: Order) -> None:
        before, process, identity = self._obeyed, self._process, self._identity
        if order.drained != before.drained:
            log.info("orders.drained" if order.drained else "orders.undrained")
            await process.pause(order.drained)
        if identity is not None and order.rotate > before.rotate:
            await identity.rotate(process.ask)
            await process.renew()
            log.info("orders.rotated")
        if identity is not None and order.name != before.name:
            identity.rename(order.name)
            log.info("orders.renamed", name=order.name)
            process.leave()
        if order.granted > before.granted:
            await process.pull_again()
        # An order without a moment comes once the keys were changed: an older one is no new one.
        rotated = max(order.rotate, before.rotate)
        self._obeyed = Order(order.name, order.drained, rotated, order.granted)
