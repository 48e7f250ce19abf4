"""Takes jobs for the cloud: pulls the ones for providers alone, and those that no worker took."""

from __future__ import annotations

from functools import partial

import structlog

from fallback.engine import CloudEngine
from fallback.overdue import OverduePuller
from fallback.policy import CloudRoutes
from schemas import metrics, settings, subjects
from schemas.api.endpoints import WORDS
from schemas.bus import Bus
from schemas.jetstream.pulls import Room
from schemas.nodes import EngineState, ServedModel, resuming
from workers.attempt import Attempt
from workers.consumer import Puller
from workers.engines.base import EngineFault
from workers.runner import Runner

log = structlog.get_logger("cloud_slots")

AHEAD = 2
"""Open pulls of one model's lane. When a pull brings a job, the next pull is sent at once."""


class CloudSlots:
    """All providers of one fallback, and their slots."""

    ready = True

    def __init__(
        self,
        bus: Bus,
        runner: Runner,
        engine: CloudEngine,
        routes: CloudRoutes,
        config: settings.Settings,
    ) -> None:
        self.engine = engine
        self._bus = bus
        self._runner = runner
        self._routes = routes
        self._config = config
        self._room = Room(config.fallback.slots, metrics.SLOTS_BUSY.labels(engine.name).set)
        self._room.open = False  # until `open`: a reconnection before it must pull nothing
        self.take, self.free, self.release = self._room.take, self._room.free, self._room.release
        self.models: tuple[ServedModel, ...] = ()
        self.offer()
        self._overdue = OverduePuller(bus, routes, self._room, partial(runner.take, self))
        self._pullers = [self._puller(model) for model in routes.models()]
        # A free slot serves every model; without this, only the puller of the ended job would pull.
        self._room.on_release += [each.pulls.fill for each in self._pullers]

    @property
    def states(self) -> tuple[EngineState, ...]:
        """One state for each provider; an open breaker shows as a failed engine."""
        return tuple(self.engine.states())

    async def open(self) -> None:
        """Raises BusError, EngineFault."""
        await self.engine.open()
        self._room.open = True
        await self.reopen()

    async def reopen(self) -> None:
        """Pull again on a new connection."""
        if not self._room.open:
            return
        await self._overdue.close()
        await self._overdue.open()
        for puller in self._pullers:
            await puller.open()

    async def pause(self, paused: bool) -> None:
        """Take no jobs for now, or take them again. Raises BusError."""
        if paused:
            await self.drain()
        else:
            self._room.open = True
            await self.reopen()

    async def drain(self) -> None:
        """Take no more jobs; running calls go on."""
        self._room.open = False
        await self._overdue.close()
        for puller in self._pullers:
            await puller.close()

    async def close(self) -> None:
        await self.engine.close()

    def heal(self, now: float) -> None:
        self._overdue.heal(now)
        for puller in self._pullers:
            puller.heal(now)

    def answered(self, attempt: Attempt) -> None:
        """Providers are asked in the order of their route, however fast they are."""

    def suspect(self, fault: EngineFault) -> None:
        log.warning("cloud.fault", code=fault.code, error=fault.message)

    def offer(self) -> None:
        """Show on the card what the routes have."""
        self.models = tuple(self._offers())

    def _puller(self, model: str) -> Puller:
        return Puller(
            self._bus,
            model,
            subjects.CLOUD,
            room=self._room,
            on_job=partial(self._runner.take, self),
            expires=self._config.worker.pull_expires,
            most=AHEAD,
        )

    def _offers(self) -> list[ServedModel]:
        """For each route and each of its providers: what the model can do there."""
        # By these three, as routes with one model may name the same provider.
        found: dict[tuple[str, str, str], ServedModel] = {}
        for route in self._routes.all():
            for name, model in route.provider_models:
                slots = self.engine.providers[name]
                paths = slots.provider.endpoints(model)
                features = sorted(word for path, word in WORDS.items() if path in paths)
                features += ["n"] if slots.provider.choices > 1 else []
                features += [resuming(p) for p in sorted(paths) if slots.provider.resumes(model, p)]
                found[route.served, name, model] = ServedModel(
                    route.served,
                    name,
                    "provider",
                    slots.count,
                    modalities=(),  # providers do not tell what their models see or hear
                    features=tuple(features),
                    ignores=slots.provider.ignores(model),
                )
        return list(found.values())
