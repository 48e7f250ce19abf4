"""One engine at work: its state, its slots, and the pullers of its models.

States: stopped, starting, ready, failed, stopping. Only a ready engine pulls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from schemas import bounds, metrics, nodes, settings, subjects
from schemas.bus import Bus, BusError
from schemas.frames import End
from schemas.jetstream.pulls import Room
from schemas.jobs import CodecError, engine_of
from schemas.nodes import MOST_MODELS, Card, EngineState, ServedModel
from workers.attempt import Attempt
from workers.batch import BatchPullers
from workers.consumer import Puller
from workers.engine_log import EngineLog
from workers.engines import identity
from workers.engines.base import Engine, EngineFault, Offer, SaysKind
from workers.pace import Answer, Paces
from workers.pinned import Neighbours, PinnedPullers
from workers.process.supervised import Supervised
from workers.runner import Runner

log = structlog.get_logger("engine_slots")

_BACKOFF = 0.5
_BACKOFF_MAX = 5.0
"""Seconds before an engine that failed is tried again, doubled each time up to the maximum."""
_SEE_ITS_LOG = "See its own log"
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
        neighbours: Neighbours,
    ) -> None:
        """`neighbours`: the engines of this process that take jobs for nodes."""
        self.engine = engine
        self.models: tuple[ServedModel, ...] = ()
        self._bus = bus
        self._runner = runner
        self._config = config
        self._settings = all_settings
        self._changed = changed
        self._neighbours = neighbours
        self._state = "stopped"
        self._reason = ""
        self._log = EngineLog(engine.name)
        self._paces = Paces(config.priority)
        self._room = Room(tell=metrics.SLOTS_BUSY.labels(engine.name).set)
        self.take, self.free, self.release = self._room.take, self._room.free, self._room.release
        self._pullers: list[Puller | PinnedPullers | BatchPullers] = []
        self._paused = False
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

    async def pause(self, paused: bool) -> None:
        """Pull nothing for now, or pull again; running jobs go on. Raises BusError."""
        self._paused = paused
        if paused:
            await self._stop_pulling()
        elif self.ready:
            await self._pull()

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

    def heal(self, now: float) -> None:
        self.models = self._paces.told(self.models, time.monotonic())
        for puller in self._pullers:
            puller.heal(now)

    def answered(self, attempt: Attempt) -> None:
        """Measure how fast that was."""
        if attempt.ended is not None and attempt.job.begun is None:
            self._paces.add(attempt.job.model, answer_of(attempt, attempt.ended))

    def rank(self, model: str, rank: int) -> None:
        """Ask for the model's jobs with this rank."""
        if self._paces.rank(model) != rank:
            self._paces.set_rank(model, rank)
            for puller in self._pullers:
                puller.rank(model, rank)
            log.debug("engine.ranked", engine=self.engine.name, model=model, rank=rank)

    def suspect(self, fault: EngineFault) -> None:
        log.warning("engine.fault", engine=self.engine.name, error=fault.message)
        if fault.away and self.ready:
            self._fail(fault.message, hint=fault.hint or _SEE_ITS_LOG)

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
            except EngineFault as fault:
                if fault.early:
                    delay = _BACKOFF
                await self._failed(fault)
            except BusError as fault:
                self._fail(str(fault))
            except Exception as fault:  # an answer of an engine that nothing here foresaw
                log.error("engine.internal", engine=self.engine.name, exc_info=fault)
                self._fail(f"a fault of the worker, which its log has: {type(fault).__name__}")
            await self._stop_pulling()
            await asyncio.sleep(delay)
            delay = min(_BACKOFF_MAX, delay * 2)

    async def _begin(self) -> None:
        offer = await self.engine.discover()
        offer = within_bounds(self.engine, await self.engine.check() or offer)
        self._room.size = offer.slots
        self.models = self._paces.told(offer.models, time.monotonic())
        metrics.SLOTS.labels(self.engine.name).set(offer.slots)
        await self._pull()
        self._reason = await self._odd()
        self._move("ready", slots=offer.slots, models=[model.id for model in offer.models])
        await self._pull()  # if it was paused until a moment ago

    async def _failed(self, fault: EngineFault) -> None:
        """An engine that still loads has not failed: it is asked again soon."""
        if fault.early:
            self._fail(fault.message, "starting")
            return
        odd = await self._odd()
        why = f"{fault.message}; {odd}" if odd else fault.message
        self._fail(why, hint=fault.hint or _SEE_ITS_LOG)

    async def _odd(self) -> str:
        """That its server is of another kind, by its own words; "" if nothing is odd."""
        engine = self.engine
        said = await engine.said_kind() if isinstance(engine, SaysKind) else ""
        return identity.mismatch(engine.name, engine.kind, said)

    async def _pull(self) -> None:
        """Ask for jobs, unless that is paused. Raises BusError."""
        if self._paused or self._pullers:
            return
        interactive = [self._puller(model.id) for model in self.models]
        self._pullers = [*interactive, self._pinned(interactive), self._batch(interactive)]
        for puller in self._pullers:
            await puller.open()

    def _puller(self, model: str) -> Puller:
        return Puller(
            self._bus,
            model,
            subjects.INTERACTIVE,
            room=self._room,
            on_job=partial(self._runner.take, self),
            expires=self._settings.worker.pull_expires,
            priority=self._paces.rank(model),
        )

    def _pinned(self, interactive: list[Puller]) -> PinnedPullers:
        return PinnedPullers(
            self._bus,
            self._room,
            interactive,
            subjects.pinned(self._runner.node),
            on_job=partial(self._runner.take, self),
            expires=self._settings.worker.pull_expires,
            name=engine_of(self._runner.holder, self.engine.name),
            neighbours=self._neighbours,
        )

    def _batch(self, interactive: list[Puller]) -> BatchPullers:
        return BatchPullers(
            self._bus,
            self._room,
            interactive,
            on_job=partial(self._runner.take, self),
            expires=self._settings.worker.pull_expires,
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
                self._fail(f"{self.engine.name} does not answer", hint=_SEE_ITS_LOG)
            return

    async def _stop_pulling(self) -> None:
        pullers, self._pullers = self._pullers, []
        for puller in pullers:
            await puller.close()

    def _fail(self, reason: str, state: str = "failed", hint: str = "") -> None:
        self._doubt.set()  # ends `_serve`
        self._room.open = False
        if self._state != "stopping":
            self._reason = reason
            self._move(state, hint)

    def _move(self, state: str, hint: str = "", **about: Any) -> None:
        """`about`: what the log says of a new state beside its reason."""
        self._log.tell(state, self._reason, hint, **about)
        if state == self._state:
            return
        self._state = state
        metrics.ENGINE_UP.labels(self.engine.name).set(state == "ready")
        self._changed()


def answer_of(attempt: Attempt, end: End) -> Answer:
    """What an attempt that has ended shows of its engine's pace. A stream came as it was made, if
    it has a frame for some tokens each: engines write up to eight at once."""
    streamed = attempt.job.stream and attempt.sent >= 4 + end.completion_tokens // 8
    return Answer(end, attempt.opened, attempt.moved, streamed)


def within_bounds(engine: Engine, offer: Offer) -> Offer:
    """What ingresses take of an offer, which is what an engine says of itself. Raises EngineFault
    if that is nothing."""
    if not bounds.is_number(offer.slots, bounds.SLOTS, 1):
        why = f"{engine.name} says that it has {str(offer.slots)[:32]} slots"
        raise EngineFault(f"{why}; 1 to {bounds.SLOTS} can be served", away=True)
    models, why = list[ServedModel](), ""
    for model in offer.models[:MOST_MODELS]:
        try:
            nodes.unpack(Card("w.w", "", "", 0, "", models=(model,)).pack())
            models.append(model)
        except CodecError as fault:
            why = bounds.cut(f"{model.id[:64]!r}: {fault}")
            log.warning("engine.model_left_out", engine=engine.name, model=model.id[:64], why=why)
    if why and not models:
        raise EngineFault(f"{engine.name} has no model that can be served: {why}", away=True)
    if len(offer.models) > MOST_MODELS:
        log.warning("engine.models_left_out", engine=engine.name, most=MOST_MODELS)
    return Offer(offer.slots, tuple(models))
