"""A worker process: its engines, its card, its metrics, and how it leaves."""

from __future__ import annotations

import asyncio
import platform
import secrets
import signal
import time
from contextlib import suppress
from importlib import metadata

import structlog
from prometheus_client import start_http_server

from schemas import bus as buses
from schemas import settings, subjects
from schemas.bus import BusError
from schemas.nodes import Card
from workers.desk import EngineDesk
from workers.engines import build
from workers.engines.base import Engine
from workers.runner import TICK, Runner

log = structlog.get_logger("worker")


class Worker:
    """Everything of one worker process. `run` returns once it has drained."""

    def __init__(self, config: settings.Settings) -> None:
        self._config = config
        self._node = config.worker.node or platform.node() or "node"
        self._holder = f"{subjects.encode(self._node)}-{secrets.token_hex(4)}"
        self._version = metadata.version("headrace")
        self._started = int(time.time())
        self._draining = False
        self._stop = asyncio.Event()
        self._desks: list[EngineDesk] = []

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Raises BusError if the broker refuses this worker."""
        engines = [(build(engine), engine) for engine in self._config.engines]
        names = ",".join(engine.name for engine in self._config.engines)
        inbox = f"{subjects.INBOX_WORKER}.{self._holder}"
        name = f"headrace-worker/{self._node} {names}"
        self._bus = await buses.connect(self._config.nats, name, inbox)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):  # before, there is nothing to drain
            loop.add_signal_handler(number, self.stop)
        serving = self._config.worker
        if serving.metrics_port >= 0:
            server, _ = start_http_server(serving.metrics_port, serving.metrics_host)
            url = f"http://{serving.metrics_host}:{server.server_port}/metrics"
            log.info("worker.metrics", url=url)
        self._runner = Runner(self._bus, self._holder, self._node, self._config)
        await self._runner.open()
        await self._announce(names)
        for engine, config in engines:
            await self._open(engine, config)
        ticker = asyncio.create_task(self._tick())
        closed = asyncio.create_task(self._bus.closed.wait())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ticker, closed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await self._drain()
        for task in (ticker, closed, stopped):
            task.cancel()
        for desk in self._desks:
            await desk.engine.close()
        await self._bus.close()
        if not self._stop.is_set():
            raise BusError("the broker closed the connection")

    async def _open(self, engine: Engine, config: settings.Engine) -> None:
        await engine.open()
        desk = EngineDesk(self._bus, self._runner, engine, config, self._config, self._say)
        self._desks.append(desk)
        desk.start()

    async def _announce(self, names: str) -> None:
        await self._bus.serve(
            "headrace-worker",
            f"Headrace worker on {self._node} for {names}",
            {"node": self._node, "holder": self._holder, "engines": names},
            self._version,
        )
        self._reopening: set[asyncio.Task[None]] = set()
        self._bus.on_reconnect(self._reconnected)

    def _reconnected(self) -> None:
        task = asyncio.create_task(self._reopen())
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    async def _reopen(self) -> None:
        for desk in self._desks:
            with suppress(BusError):  # away again: the next connection calls this again
                await desk.reopen()
        self._say()

    async def _tick(self) -> None:
        """The card each second, leases and lost pulls each half."""
        beat = 0
        while True:
            await asyncio.sleep(TICK)
            self._runner.tick(time.monotonic())
            now = asyncio.get_running_loop().time()
            for desk in self._desks:
                desk.heal(now)
            beat += 1
            if beat % 2 == 0:
                self._say()

    def card(self) -> Card:
        return Card(
            holder=self._holder,
            node=self._node,
            server=self._bus.server_id,
            client=self._bus.client_id,
            version=self._version,
            draining=self._draining,
            engines=tuple(desk.state for desk in self._desks),
            models=tuple(model for desk in self._desks if desk.ready for model in desk.models),
            jobs=len(self._runner.running),
            started=self._started,
        )

    def _say(self) -> None:
        with suppress(BusError):
            self._bus.post(subjects.card(self._holder), self.card().pack())

    async def _drain(self) -> None:
        """Take nothing more, finish what runs within the limit, hand back the rest."""
        self._draining = True
        log.info("worker.draining", jobs=len(self._runner.running))
        self._say()
        for desk in self._desks:
            await desk.drain()
        try:
            async with asyncio.timeout(self._config.worker.drain):
                await self._runner.idle.wait()
        except TimeoutError:
            await self._runner.abandon("the worker was stopped")
        self._say()
