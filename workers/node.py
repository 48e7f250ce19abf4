"""A worker process: the engines of one machine."""

from __future__ import annotations

from workers.engine_slots import EngineDesk
from workers.engines import build
from workers.member import Holder


class Worker(Holder):
    def _names(self) -> str:
        return ",".join(engine.name for engine in self._config.engines)

    async def _staff(self) -> None:
        for config in self._config.engines:
            engine = build(config)
            await engine.open()
            desk = EngineDesk(self._bus, self._runner, engine, config, self._config, self._say)
            self._desks.append(desk)
            desk.start()
