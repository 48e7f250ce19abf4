"""Nodes and invitations in the broker's stream: what is written names the record that was read
before, so that of two at once the later one reads again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from deploy.nodes.roster import TOLD
from schemas import registry, subjects, topology
from schemas.bus import ApiError, Bus, BusError
from schemas.jetstream import records, streams
from schemas.jetstream.records import Last
from schemas.jetstream.streams import AFTER, MOVED_ON
from schemas.registry import Invite, Node

_TTL = "Nats-TTL"
_TRIES = 8
"""How often a change is made anew as others changed the same record."""
_FORGOTTEN = "24h"
"""For how long an empty record stays, which says to those who follow that there is none."""


class Contended(BusError):
    """Others change the same record all the time."""


class NodeStore:
    """Every method raises BusError, and CodecError for a record of another release."""

    def __init__(self, bus: Bus, replicas: int = 1) -> None:
        self._bus = bus
        self._replicas = replicas

    async def open(self) -> None:
        """Make the stream if it is missing."""
        await streams.ensure(self._bus, [topology.nodes(self._replicas)])

    async def last(self) -> Last:
        return await records.read(self._bus, subjects.NODES_STREAM)

    async def everything(self) -> dict[str, bytes]:
        """The records of nodes, by subject."""
        last = await self.last()
        return {name: data for name, (_, data) in last.items() if data and subjects.is_node(name)}

    async def replace(self, copy: Mapping[str, bytes]) -> None:
        """Write what `everything` gave; nodes that are not in it are none any more."""
        last = await self.last()
        for subject in (await self.everything()).keys() - copy.keys():
            await self._put(subject, b"", last[subject][0], _FORGOTTEN)
        for subject, data in copy.items():
            await self._put(subject, data, last.get(subject, (0, b""))[0])

    async def change(self, name: str, make: Callable[[Node | None], Node | None]) -> int:
        """Replace the record of a node by what `make` makes of it; None: there is none any more.
        Returns the place of what was written."""
        subject = subjects.node(name)
        for _ in range(_TRIES):
            place, data = (await self.last()).get(subject, (0, b""))
            made = make(registry.unpack(Node, data))
            if written := await self.write(made or name, place):
                return written
        raise Contended(f"others change the record of {name} all the time: try again")

    async def write(self, node: Node | str, after: int) -> int:
        """Write the record of a node behind the one at the place `after`; a name: there is none any
        more. Returns its place, 0 if `after` is no longer the last one."""
        if isinstance(node, str):
            return await self._put(subjects.node(node), b"", after, _FORGOTTEN)
        return await self._put(subjects.node(node.name), node.pack(), after)

    async def invite(self, invite: Invite, after: int = 0) -> int:
        """Write an invitation, which goes by itself when nobody needs to be told of it any more."""
        left = max(60, int(invite.expires + TOLD - time.time()))
        return await self._put(subjects.invite(invite.id), invite.pack(), after, f"{left}s")

    async def _put(self, subject: str, data: bytes, after: int, ttl: str = "") -> int:
        headers = {AFTER: str(after), **({_TTL: ttl} if ttl else {})}
        try:
            return int((await self._bus.store(subject, headers, data))["seq"])
        except ApiError as fault:
            if fault.code == MOVED_ON:
                return 0
            raise
