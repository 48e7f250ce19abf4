"""An ingress process: broker, watch, HTTP server, and how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import time
from importlib import metadata

import structlog
import uvicorn

from ingress.app import build
from ingress.auth import Keys
from ingress.catalog import Catalog
from ingress.context import Context
from ingress.dispatch import Dispatch
from ingress.limits import protocol
from ingress.replies import Replies
from ingress.routes import Routes
from ingress.watch import Watch
from schemas import bus as buses
from schemas import subjects, topology
from schemas.bus import Bus, BusError
from schemas.settings import Settings

log = structlog.get_logger("ingress")


class Ingress:
    """Everything of one ingress process. `run` returns once it has drained."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._id = f"in-{secrets.token_hex(4)}"
        self._stop = asyncio.Event()
        self.port = config.ingress.port

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Raises BusError if the broker refuses this ingress."""
        config = self._config
        where = f"{config.ingress.host}:{config.ingress.port}"
        inbox = f"{subjects.INBOX_INGRESS}.{self._id}"
        bus = await buses.connect(config.nats, f"headrace-ingress/{self._id} {where}", inbox)
        context = await self._context(bus)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):  # before, there is nothing to drain
            loop.add_signal_handler(number, self.stop)
        server = Server(
            uvicorn.Config(
                build(context),
                host=config.ingress.host,
                port=config.ingress.port,
                http=protocol(config.ingress.max_head),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=round(config.ingress.drain),
            )
        )
        serving = asyncio.create_task(server.serve())
        counting = asyncio.create_task(context.dispatch.tally.run())
        stopped = asyncio.create_task(self._stop.wait())
        closed = asyncio.create_task(bus.closed.wait())
        await asyncio.wait({serving, stopped, closed}, return_when=asyncio.FIRST_COMPLETED)
        context.draining = True
        log.info("ingress.draining", jobs=len(context.dispatch.tickets))
        server.should_exit = True
        await serving
        await context.judge.close()
        await context.media.close()
        counting.cancel()
        await context.dispatch.tally.flush()
        self._watch.close()
        for task in (stopped, closed):
            task.cancel()
        await bus.close()
        if not self._stop.is_set() and closed.done():
            raise BusError("the broker closed the connection")

    async def _context(self, bus: Bus) -> Context:
        config = self._config
        catalog = Catalog(time.monotonic)
        routes = Routes(config, catalog)
        dispatch = Dispatch(bus, self._id, config)
        await _ensure(bus, config)
        edge = config.ingress
        replies = Replies(bus, self._id, dispatch, edge.max_buffer, edge.max_answer)
        await replies.open()
        self._watch = Watch(bus, config, dispatch, catalog)
        await self._watch.open()
        await self._watch.learn()
        await bus.serve(
            "headrace-ingress",
            f"Headrace ingress at {config.ingress.host}:{config.ingress.port}",
            {"ingress": self._id, "address": f"{config.ingress.host}:{config.ingress.port}"},
            metadata.version("headrace"),
        )
        return Context(config, bus, catalog, routes, dispatch, Keys(config.keys))


class Server(uvicorn.Server):
    """Says its address once it listens, and leaves signals to the process."""

    def install_signal_handlers(self) -> None: ...

    def capture_signals(self):  # type: ignore[no-untyped-def]
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in self.servers:
            host, port, *_ = listener.sockets[0].getsockname()
            log.info("ingress.listening", url=f"http://{host}:{port}")


async def _ensure(bus: Bus, config: Settings) -> None:
    """Streams, however long JetStream takes to come up."""
    while True:
        try:
            await bus.ensure_streams(topology.streams(config.jobs, config.nats.replicas))
        except BusError as fault:
            log.warning("ingress.waiting", error=str(fault))
            await asyncio.sleep(0.5)
        else:
            return
