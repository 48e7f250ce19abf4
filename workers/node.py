"""A worker process: the engines of one machine."""

from __future__ import annotations

import structlog

from schemas import ranks
from schemas.jobs import CodecError
from workers.engine_slots import EngineSlots
from workers.engines import build
from workers.member import Member
from workers.pinned import Neighbours

log = structlog.get_logger("worker")


class Worker(Member):
    def _names(self) -> str:
        return ",".join(engine.name for engine in self._config.engines)

    async def _open_slots(self) -> None:
        self._runner.on_ranks = self._ranked
        neighbours: Neighbours = {}
        for config in self._config.engines:
            engine = build(config)
            await engine.open()
            about = engine, config, self._config, self._send_card, neighbours
            slots = EngineSlots(self._bus, self._runner, *about)
            self._slots.append(slots)
            slots.start()

    def _ranked(self, given: bytes) -> None:
        """An ingress says how the engines here rank among those of their models."""
        try:
            told = ranks.unpack(given)
        except CodecError as fault:
            log.warning("worker.undecodable", error=str(fault))
            return
        for slots in self._slots:
            for each in told:
                if isinstance(slots, EngineSlots) and slots.engine.name == each.engine:
                    slots.rank(each.model, each.rank)
