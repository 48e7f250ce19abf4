"""A worker process: the engines of one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from schemas import ranks, settings
from schemas.identity import Identity
from schemas.jobs import CodecError
from schemas.watched import watched
from workers.engine_slots import EngineSlots
from workers.engines import build
from workers.member import Member
from workers.pinned import Neighbours

log = structlog.get_logger("worker")


class Worker(Member):
    def __init__(
        self,
        config: settings.Settings,
        read: Callable[[], settings.Settings] | None = None,
        identity: Identity | None = None,
    ) -> None:
        super().__init__(config, read, identity)
        self._neighbours: Neighbours = {}
        self._known = {engine.name: engine for engine in config.engines}
        self._opened = asyncio.Event()
        self._adding: set[asyncio.Task[None]] = set()

    def _names(self) -> str:
        return ",".join(engine.name for engine in self._config.engines)

    async def _open_slots(self) -> None:
        self._runner.on_ranks = self._ranked
        for config in self._config.engines:
            await self._start(config)
        self._opened.set()

    async def _start(self, config: settings.Engine) -> None:
        engine = build(config)
        await engine.open()
        if self._runner.tracer is not None:
            self._runner.tracer.know(config)
        about = engine, config, self._config, self._send_card, self._neighbours
        slots = EngineSlots(self._bus, self._runner, *about)
        if self._orders.drained:
            await slots.pause(True)
        if self._draining:  # since a moment ago: nobody would drain or close it
            await engine.close()
            return
        self._slots.append(slots)
        slots.start()

    def _apply(self, found: settings.Settings) -> set[str]:
        """Engines that are new start. One that changed or is gone goes on as it is until the next
        start: it may have jobs."""
        if not self._draining and not self._stop.is_set():
            for config in found.engines:
                if config.name not in self._known:
                    self._known[config.name] = config
                    task = asyncio.create_task(watched("add", partial(self._add, config)))
                    self._adding.add(task)
                    task.add_done_callback(self._adding.discard)
        same = {engine.name: engine for engine in found.engines} == self._known
        return {"engines"} if same else set()

    async def _close_own(self) -> None:
        for task in self._adding:
            task.cancel()
        await asyncio.gather(*self._adding, return_exceptions=True)

    async def _add(self, config: settings.Engine) -> None:
        await self._opened.wait()
        if not self._draining:
            await self._start(config)

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
