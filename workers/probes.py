"""Probes engines whose jobs are silent: whether they hang, or have much to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from workers.attempt import Attempt
from workers.engines.base import EngineFault

log = structlog.get_logger("runner")


class Probed(Protocol):
    name: str

    async def probe(self) -> bool:
        """Whether it still works. Raises EngineFault."""


class Probes:
    """One probe of an engine at a time."""

    def __init__(self) -> None:
        self._running: dict[Probed, asyncio.Task[None]] = {}

    def ask(self, engine: Probed, attempts: Sequence[Attempt]) -> None:
        """An answer is progress of these attempts."""
        if engine not in self._running:
            self._running[engine] = asyncio.create_task(self._ask(engine, attempts))

    async def _ask(self, engine: Probed, attempts: Sequence[Attempt]) -> None:
        try:
            if await engine.probe():
                for attempt in attempts:
                    attempt.probed()
        except EngineFault as fault:
            log.warning("runner.probe_failed", engine=engine.name, error=fault.message)
        finally:
            del self._running[engine]
