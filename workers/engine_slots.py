"""One engine at work: its state, its slots, and the pullers of its models.

States: stopped, starting, ready, failed, stopping. Only a ready engine pulls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from schemas import metrics, settings, subjects
from schemas.bus import Bus, BusError
from schemas.jetstream.pulls import Room
from schemas.nodes import EngineState, ServedModel
from workers.consumer import Puller, declare
from workers.engines.base import Engine, EngineFault
from workers.process.supervised import Supervised
from workers.runner import Runner

log = structlog.get_logger("engine_slots")

_BACKOFF = 0.5
_BACKOFF_MAX = 5.0
"""Seconds before an engine that failed is tried again, doubled each time up to the maximum."""
_IDLE_PROBE = 5.0
"""Seconds between two probes of an engine that has nothing to do."""


class EngineSlots:
    """Watches one engine from discovery to drain. Calls `changed` when its card is out of date."""

    def __init__(
        self,
        bus: Bus,
        runner: Runner,
        engine: Engine,
        config: settings.Engine,
        all_settings: settings.Settings,
        changed: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.models: tuple[ServedModel, ...] = ()
        self._bus = bus
        self._runner = runner
        self._config = config
        self._settings = all_settings
        self._changed = changed
        self._state = "stopped"
        self._reason = ""
        self._room = Room(tell=metrics.SLOTS_BUSY.labels(engine.name).set)
        self.take, self.release = self._room.take, self._room.release
        self._pullers: list[Puller] = []
        self._doubt = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if isinstance(engine, Supervised):
            engine.on_end = self.suspect

    @property
    def state(self) -> EngineState:
        engine, room = self.engine, self._room
        return EngineState(
            engine.name, engine.kind, self._state, room.size, room.taken, self._reason
        )

    @property
    def states(self) -> tuple[EngineState, ...]:
        return (self.state,)

    @property
    def ready(self) -> bool:
        return self._state == "ready"

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def drain(self) -> None:
        """Stop pulling; running jobs go on."""
        # First, so that the end of its program is no failure (see `_fail`).
        self._move("stopping")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})  # to await it would raise its CancelledError
        await self._stop_pulling()

    async def close(self) -> None:
        await self.engine.close()

    async def reopen(self) -> None:
        """Subscribe and pull again on a new connection."""
        if self.ready:
            for puller in self._pullers:
                await puller.open()

    async def declare(self) -> None:
        """Make the consumers that the broker does not have."""
        jobs, replicas = self._settings.jobs, self._settings.nats.replicas
        for model in self.models:
            await declare(self._bus, model.id, jobs.ack_wait, replicas)

    def heal(self, now: float) -> None:
        for puller in self._pullers:
            puller.heal(now)

    def suspect(self, fault: EngineFault) -> None:
        log.warning("engine.fault", engine=self.engine.name, error=fault.message)
        if fault.away and self.ready:
            self._fail(fault.message)

    async def _watch(self) -> None:
        """Discover the engine, check it and serve until it is in doubt; then begin again."""
        delay = _BACKOFF
        while True:
            self._doubt.clear()
            self._room.open = True  # `_fail` has closed it
            # Its card says that it failed until it has passed its check.
            if self._state != "failed":
                self._move("starting")
            try:
                await self._begin()
                delay = _BACKOFF
                await self._serve()
            except (EngineFault, BusError) as fault:
                # An engine that still loads has not failed: ask it again soon.
                if isinstance(fault, EngineFault) and fault.early:
                    self._fail(fault.message, "starting")
                    delay = _BACKOFF
                else:
                    self._fail(str(fault))
            except Exception as fault:  # an answer of an engine that nothing here foresaw
                log.error("engine.internal", engine=self.engine.name, exc_info=fault)
                self._fail(f"a fault of the worker, which its log has: {type(fault).__name__}")
            await self._stop_pulling()
            await asyncio.sleep(delay)
            delay = min(_BACKOFF_MAX, delay * 2)

    async def _begin(self) -> None:
        offer = await self.engine.discover()
        offer = await self.engine.check() or offer
        self._room.size, self.models = offer.slots, offer.models
        metrics.SLOTS.labels(self.engine.name).set(offer.slots)
        await self.declare()
        self._pullers = [self._puller(model.id) for model in offer.models]
        for puller in self._pullers:
            await puller.open()
        self._move("ready")

    def _puller(self, model: str) -> Puller:
        return Puller(
            self._bus,
            model,
            subjects.INTERACTIVE,
            room=self._room,
            on_job=partial(self._runner.take, self),
            expires=self._settings.worker.pull_expires,
            priority=self._config.priority,
        )

    async def _serve(self) -> None:
        """Return once a job's fault or a failed probe puts the engine in doubt."""
        while True:
            try:
                async with asyncio.timeout(_IDLE_PROBE):
                    await self._doubt.wait()
            except TimeoutError:
                # With jobs in it, the runner watches the engine.
                if self._room.taken or await self.engine.probe():
                    continue
                self._fail(f"{self.engine.name} does not answer")
            return

    async def _stop_pulling(self) -> None:
        for puller in self._pullers:
            await puller.close()

    def _fail(self, reason: str, state: str = "failed") -> None:
        self._doubt.set()  # ends `_serve`
        self._room.open = False
        if self._state != "stopping":
            self._reason = reason
            self._move(state)

    def _move(self, state: str) -> None:
        if state == self._state:
            return
        self._state = state
        if state == "ready":
            self._reason = ""
        metrics.ENGINE_UP.labels(self.engine.name).set(state == "ready")
        said = {"reason": self._reason} if self._reason else {}
        log.info(f"engine.{state}", engine=self.engine.name, **said)
        self._changed()
