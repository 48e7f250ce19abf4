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
from prometheus_client import start_http_server

from schemas import bus as buses
from schemas import settings, subjects
from schemas.bus import BusError
from schemas.frames import Role
from schemas.nodes import Card, EngineState, ServedModel
from workers.runner import TICK, Runner

log = structlog.get_logger("member")

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

    async def declare(self) -> None:
        """Make the consumers that the broker does not have; wait until there is a stream."""

    def heal(self, now: float) -> None:
        """Twice a second: repeat requests that the broker lost when it changed its leader."""

    async def drain(self) -> None:
        """Take no more jobs; running jobs go on."""

    async def close(self) -> None: ...


class Member:
    """One process: `run` returns after the process has drained."""

    role: ClassVar[Role] = Role.WORKER
    inbox: ClassVar[str] = subjects.INBOX_WORKER

    def __init__(
        self, config: settings.Settings, read: Callable[[], settings.Settings] | None = None
    ) -> None:
        """`read`: reads the settings anew; raises SettingsError."""
        self._config = config
        self._read = read
        self._node = config.worker.node or platform.node() or "node"
        self._holder = f"{subjects.encode(self._node)}-{secrets.token_hex(4)}"
        self._version = metadata.version("headrace")
        self._started = int(time.time())
        self._draining = False
        self._stop = asyncio.Event()
        self._slots: list[Slots] = []
        self._reopening: set[asyncio.Task[None]] = set()

    # What workers and fallbacks do differently.

    def _names(self) -> str:
        """The names of the engines, for people to read."""
        raise NotImplementedError

    def _metrics(self) -> tuple[str, int]:
        return self._config.worker.metrics_host, self._config.worker.metrics_port

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
        """Raises BusError if the broker refuses this process."""
        names = self._names()
        name = f"headrace-{self.role}/{self._node} {names}"
        self._bus = await buses.connect(self._config.nats, name, f"{self.inbox}.{self._holder}")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):  # once there is something to drain
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._serve_metrics()
        self._runner = Runner(self._bus, self.role, self._holder, self._node, self._config)
        await self._runner.open()  # before the first job, whose claim is answered here
        await self._announce(names)
        await self._open_slots()
        ticker = asyncio.create_task(self._tick())
        closed = asyncio.create_task(self._bus.closed.wait())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ticker, closed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await self._drain()
        for task in (closed, stopped):
            task.cancel()
        # Engines stay until here: what still ran at the drain needed them.
        await asyncio.gather(*(slots.close() for slots in self._slots))
        await self._close_own()
        await self._bus.close()
        if ticker.done():  # only a fault ends it: raise that fault
            ticker.result()
        ticker.cancel()
        if not self._stop.is_set():
            raise BusError("the broker closed the connection")

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

    def _serve_metrics(self) -> None:
        host, port = self._metrics()
        if port >= 0:
            server, _ = start_http_server(port, host)
            url = f"http://{host}:{server.server_port}/metrics"
            log.info(f"{self.role}.metrics", url=url)

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
        self._send_card()
        # The broker may have lost consumers, or all of the stream: then an ingress makes it anew.
        await asyncio.gather(*(slots.declare() for slots in self._slots))

    async def _tick(self) -> None:
        """Send the card each second; look after leases and lost pulls each half second."""
        beat = 0
        while True:
            await asyncio.sleep(TICK)
            self._runner.tick(time.monotonic())
            now = asyncio.get_running_loop().time()
            for slots in self._slots:
                slots.heal(now)
            beat += 1
            if beat % 2 == 0:
                self._send_card()

    def card(self) -> Card:
        return Card(
            holder=self._holder,
            node=self._node,
            server=self._bus.server_id,
            client=self._bus.client_id,
            version=self._version,
            draining=self._draining,
            engines=tuple(state for slots in self._slots for state in slots.states),
            models=tuple(model for slots in self._slots if slots.ready for model in slots.models),
            jobs=len(self._runner.running),
            started=self._started,
            role=self.role,
        )

    def _send_card(self) -> None:
        with suppress(BusError):
            self._bus.post(subjects.card(self._holder), self.card().pack())

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
