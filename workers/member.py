"""A process that holds jobs, a worker or a fallback: how it starts, shows its card and drains."""

from __future__ import annotations

import asyncio
import platform
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from typing import ClassVar, Protocol

import structlog

from schemas import bus as buses
from schemas import settings, subjects
from schemas.bus import Bus, BusError
from schemas.frames import Role
from schemas.identity import Identity
from schemas.nodes import Card, EngineState, ServedModel
from schemas.otel.opened import opened
from schemas.watched import watched
from workers import metrics_page
from workers.heap import Heap
from workers.orders import Orders
from workers.runner import TICK, Runner
from workers.traced import Tracer

log = structlog.get_logger("member")

ASKED = 20.0
"""Seconds that the hub has to take new keys."""

WHOLE_EACH = 60.0
"""Seconds after which a card tells again what it told before."""
SHOWN_EACH = 0.25
"""Seconds between two whole cards for who ask for them: one is for all."""

_SECTIONS = set(settings.Settings.model_fields) - {"ingress", "keys", "nats"}
"""What members read of the settings, but for their broker: `headrace up` may have moved it."""


class Slots(Protocol):
    """What one engine serves, or all providers do, and with which slots."""

    models: tuple[ServedModel, ...]

    @property
    def ready(self) -> bool: ...

    @property
    def states(self) -> tuple[EngineState, ...]: ...

    async def reopen(self) -> None:
        """Subscribe and pull again on a new connection. Raises BusError."""

    def heal(self, now: float) -> None:
        """Twice a second: repeat requests that the broker lost when it changed its leader."""

    async def pause(self, paused: bool) -> None:
        """Take no jobs for now, or take them again; running jobs go on. Raises BusError."""

    async def drain(self) -> None:
        """Take no more jobs; running jobs go on."""

    async def close(self) -> None: ...


class Member:
    """One process: `run` returns after the process has drained."""

    role: ClassVar[Role] = Role.WORKER
    inbox: ClassVar[str] = subjects.INBOX_WORKER

    def __init__(
        self,
        config: settings.Settings,
        read: Callable[[], settings.Settings] | None = None,
        identity: Identity | None = None,
    ) -> None:
        """`read`: reads the settings anew; raises SettingsError. `identity`: of a node that
        joined."""
        self._config = config
        self._read = read
        self._node = config.worker.node or platform.node() or "node"
        self._holder = subjects.holder(self._node, secrets.token_hex(4))
        self._version = metadata.version("headrace")
        self._started = int(time.time())
        self._draining = False
        self._stop = asyncio.Event()
        self._telemetry = opened(config.otel, self.role, self._holder)
        self._slots: list[Slots] = []
        self._page: metrics_page.Page | None = None
        self._reopening: set[asyncio.Task[None]] = set()
        self._orders = Orders(self._node, self, identity)
        self._told: list[object] = []
        self._told_at = 0.0
        """The facts about fields that a card told last, and when."""
        self.returns = False
        """It has left to come back by another name."""

    # What workers and fallbacks do differently.

    def _names(self) -> str:
        """The names of the engines, for people to read."""
        raise NotImplementedError

    def _metrics(self) -> metrics_page.Section:
        return self._config.worker

    async def _open_slots(self) -> None:
        """Fill `_slots` and start each of them. Raises BusError."""
        raise NotImplementedError

    def _apply(self, found: settings.Settings) -> set[str]:
        """Put new settings in force where that disturbs no job. Returns the names of the sections
        that are now as `found` says. Raises SettingsError, and then nothing has changed."""
        return set()

    async def _close_own(self) -> None:
        """Close what else the process holds; called after the slots are closed."""

    # What they share.

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Raises BusError if the broker refuses this process, and SettingsError."""
        names = self._names()
        self._page = metrics_page.serve(self.role, self._metrics())
        name = f"headrace-{self.role}/{self._node} {names}"
        self._bus = await buses.connect(self._config.nats, name, f"{self.inbox}.{self._holder}")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):  # once there is something to drain
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._runner = Runner(self._bus, self.role, self._holder, self._node, self._config)
        if self._telemetry is not None:
            self._runner.tracer = Tracer(self._telemetry)
            self._telemetry.start()
        self._heap = Heap()
        self._runner.on_order = self._orders.hear
        self._runner.on_show = self._show
        await self._runner.open()  # before the first job, whose claim is answered here
        await self._announce(names)
        about = {"node": self._node, "engines": names, "version": self._version}
        log.info(f"{self.role}.started", role=self.role, **about)
        await self._open_slots()
        ticker = asyncio.create_task(watched("tick", self._tick))
        obeying = asyncio.create_task(watched("orders", self._orders.obey))
        closed = asyncio.create_task(self._bus.closed.wait())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({closed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        obeying.cancel()  # what was ordered ends with the drain
        await self._drain()
        for task in (closed, stopped):
            task.cancel()
        # Engines stay until here: what still ran at the drain needed them.
        await asyncio.gather(*(slots.close() for slots in self._slots))
        await self._close_own()
        if self._telemetry is not None:
            await self._telemetry.close()
        await self._bus.close()
        if self.returns:  # else the process ends, without waiting for the page
            await asyncio.to_thread(self._page.close)
        ticker.cancel()
        if not self._stop.is_set():
            raise BusError("the broker closed the connection")
        log.info(f"{self.role}.ended")

    def _reload(self) -> None:
        """Read the settings anew. What needs a restart is in the log, by its section."""
        try:
            found = self._read() if self._read is not None else self._config
            applied = self._apply(found)
        except settings.SettingsError as fault:
            log.error(f"{self.role}.not_reloaded", error=str(fault))
            return
        other = {name for name in _SECTIONS if getattr(found, name) != getattr(self._config, name)}
        applied &= other
        self._config = self._config.model_copy(update={n: getattr(found, n) for n in applied})
        log.info(f"{self.role}.reloaded", applied=sorted(applied), restart=sorted(other - applied))

    async def _announce(self, names: str) -> None:
        await self._bus.serve(
            f"headrace-{self.role}",
            f"Headrace {self.role} on {self._node} for {names}",
            {"node": self._node, "holder": self._holder, "engines": names},
            self._version,
        )
        self._bus.on_reconnect(self._reconnected)

    def _reconnected(self) -> None:
        task = asyncio.create_task(self._reopen())
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    async def _reopen(self) -> None:
        for slots in self._slots:
            with suppress(BusError):  # the broker is away again: the next connection calls this
                await slots.reopen()
        self._send_card(whole=True)

    async def _tick(self) -> None:
        """Send the card each second; look after leases and lost pulls each half second."""
        beat = 0
        while True:
            await asyncio.sleep(TICK)
            self._runner.tick(time.monotonic())
            self._heap.look(time.monotonic())
            now = asyncio.get_running_loop().time()
            for slots in self._slots:
                slots.heal(now)
            beat += 1
            if beat % 2 == 0:
                self._send_card()

    async def pause(self, paused: bool) -> None:
        """As `orders.Process` has it."""
        for slots in self._slots:
            await slots.pause(paused)
        self._send_card()

    async def pull_again(self) -> None:
        """As `orders.Process` has it."""
        for slots in self._slots:
            await slots.reopen()

    async def renew(self) -> None:
        """As `orders.Process` has it. Nothing is under way meanwhile that could be lost: no job,
        and what was said is heard before."""
        await self.pause(True)
        for bus in self._buses():
            await bus.renew()
        await self.pause(self._orders.drained)

    async def ask(self, payload: bytes) -> bytes:
        """As `orders.Process` has it."""
        subject = subjects.rotation(self._node)
        return (await self._bus.request(subject, payload, timeout=ASKED)).data

    def leave(self) -> None:
        """As `orders.Process` has it."""
        self.returns = True
        self.stop()

    def _buses(self) -> list[Bus]:
        """The connections of this process."""
        return [self._bus]

    def card(self) -> Card:
        serving = () if self._orders.drained else tuple(each for each in self._slots if each.ready)
        return Card(
            holder=self._holder,
            node=self._node,
            server=self._bus.server_id,
            client=self._bus.client_id,
            version=self._version,
            draining=self._draining or self._orders.drained,
            engines=tuple(state for slots in self._slots for state in slots.states),
            models=tuple(model for slots in serving for model in slots.models),
            jobs=len(self._runner.running),
            started=self._started,
            role=self.role,
            labels=self._config.worker.card_labels,
            metrics=self._page.address if self._page else "",
        )

    def _show(self) -> None:
        if time.monotonic() - self._told_at > SHOWN_EACH:
            self._send_card(whole=True)

    def _send_card(self, *, whole: bool = False) -> None:
        """`whole`: with the facts about fields, which are nine tenths of it; else they are told
        when they are new, and now and then."""
        card, now = self.card(), time.monotonic()
        facts: list[object] = [(model.ignores, model.knows) for model in card.models]
        whole = whole or facts != self._told or now - self._told_at > WHOLE_EACH
        with suppress(BusError):
            self._bus.post(subjects.card(self._holder), card.pack(whole=whole))
            if whole:
                self._told, self._told_at = facts, now

    async def _drain(self) -> None:
        """Take no more jobs, let running ones finish within the limit, hand back the rest."""
        self._draining = True
        log.info(f"{self.role}.draining", jobs=len(self._runner.running))
        self._send_card()
        for slots in self._slots:
            await slots.drain()
        try:
            async with asyncio.timeout(self._config.worker.drain):
                await self._runner.idle.wait()
        except TimeoutError:
            await self._runner.abandon(f"the {self.role} was stopped")
        self._send_card()
