"""A worker process: the engines of one machine."""

from __future__ import annotations

from workers.engine_slots import EngineSlots
from workers.engines import build
from workers.member import Member


class Worker(Member):
    def _names(self) -> str:
        return ",".join(engine.name for engine in self._config.engines)

    async def _open_slots(self) -> None:
        for config in self._config.engines:
            engine = build(config)
            await engine.open()
            slots = EngineSlots(
                self._bus, self._runner, engine, config, self._config, self._send_card
            )
            self._slots.append(slots)
            slots.start()
