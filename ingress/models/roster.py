"""Follows what operators say of nodes: which joined, and which are drained or evicted. A broker
without a hub has no such records; then cards alone say which nodes there are."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ingress.models.catalog import Catalog
from schemas import registry, subjects
from schemas.bus import Bus
from schemas.jetstream.records import Records
from schemas.jobs import CodecError
from schemas.registry import Node
from schemas.watched import watched

log = structlog.get_logger("roster")


class Roster:
    def __init__(
        self, bus: Bus, catalog: Catalog, hear: Callable[[Node], None] = lambda node: None
    ) -> None:
        """`hear`: gets each record, those of ingresses too."""
        self._hear = hear
        self._records = Records(bus, subjects.NODES_STREAM, self._changed, optional=True)
        self._catalog = catalog
        self._unreadable: set[int] = set()
        """Places of records that were told of."""

    async def run(self) -> None:
        await watched("roster", self._records.run)

    def _changed(self) -> None:
        found = {}
        for subject, (place, data) in self._records.last.items():
            if subjects.is_node(subject) and (node := self._node(place, data)) is not None:
                self._hear(node)
                if node.role == registry.WORKER:
                    found[node.name] = node
        self._catalog.enroll(found)

    def _node(self, place: int, data: bytes) -> Node | None:
        """None if it was forgotten, or cannot be read."""
        try:
            return registry.unpack(Node, data)
        except CodecError as fault:
            if place not in self._unreadable:
                self._unreadable.add(place)
                log.error("roster.unreadable", error=str(fault))
            return None
