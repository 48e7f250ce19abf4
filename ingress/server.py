"""An ingress process: it connects to the broker, serves HTTP, and drains when it has to leave."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata

import structlog
import uvicorn

from ingress.app import Entry, build
from ingress.context import Context
from ingress.http.auth import Keys
from ingress.http.protocol import protocol
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.replies import Replies
from ingress.jobs.watch import Watch
from ingress.models.catalog import Catalog
from ingress.models.routes import Routes
from schemas import bus as buses
from schemas import subjects
from schemas.bus import Bus, BusDenied, BusError
from schemas.errors import ShuttingDown
from schemas.settings import Settings, SettingsError

log = structlog.get_logger("ingress")


LAST_WORDS = 2.0
"""Seconds that clients have to take the error with which an answer ends when a drain is over."""


class ListenFailed(Exception):
    """The process cannot listen on the address. The message says what to do."""


class Ingress:
    """One ingress process. `run` returns once it has drained."""

    def __init__(
        self,
        config: Settings,
        more: Sequence[Entry] = (),
        read: Callable[[], Settings] | None = None,
    ) -> None:
        """`more`: endpoints beside the API's own. `read`: reads the settings anew; raises
        SettingsError."""
        self._config = config
        self._more = more
        self._read = read
        self._id = f"in-{secrets.token_hex(4)}"
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises ListenFailed, BusError if the broker refuses the ingress."""
        config = self._config
        with contextlib.ExitStack() as stack:
            listeners = _bound(config.ingress.host, config.ingress.port, stack)
            port = listeners[0].getsockname()[1]
            await self._serve(listeners, _address(config.ingress.host, port))

    async def _serve(self, listeners: list[socket.socket], where: str) -> None:
        config = self._config
        inbox = f"{subjects.INBOX_INGRESS}.{self._id}"
        bus = await buses.connect(config.nats, f"headrace-ingress/{self._id} {where}", inbox)
        context = await self._context(bus, where)
        loop = asyncio.get_running_loop()
        # Not earlier: until now there is nothing to drain, and a signal may end the process.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload, context)
        server = Server(
            uvicorn.Config(
                build(context, self._more),
                http=protocol(config.ingress.max_head),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                # Not before `_end` has told the clients.
                timeout_graceful_shutdown=math.ceil(config.ingress.drain + LAST_WORDS),
            )
        )
        serving = asyncio.create_task(server.serve(listeners))
        counting = asyncio.create_task(context.dispatch.usage.run())
        stopped = asyncio.create_task(self._stop.wait())
        closed = asyncio.create_task(bus.closed.wait())
        await asyncio.wait({serving, stopped, closed}, return_when=asyncio.FIRST_COMPLETED)
        context.draining = True
        log.info("ingress.draining", jobs=len(context.dispatch.tickets))
        server.should_exit = True
        ending = loop.call_later(config.ingress.drain, _end, context)
        # Answers end first, and then what they are made with.
        await serving
        ending.cancel()
        await context.recordings.close()
        await context.schema_checker.close()
        await context.media.close()
        counting.cancel()
        await context.dispatch.usage.flush()  # what the last answers took
        self._watch.close()
        for task in (stopped, closed):
            task.cancel()
        await bus.close()
        if not self._stop.is_set() and closed.done():
            raise BusError("the broker closed the connection")

    def _reload(self, context: Context) -> None:
        """Keys and routes as the settings say now. Requests that run are not touched."""
        try:
            found = self._read() if self._read is not None else self._config
        except SettingsError as fault:
            log.error("ingress.not_reloaded", error=str(fault))
            return
        context.keys, context.routes = Keys(found.keys), Routes(found, context.catalog)
        log.info("ingress.reloaded", keys=len(found.keys), routes=len(found.route))

    async def _context(self, bus: Bus, where: str) -> Context:
        config = self._config
        catalog = Catalog(time.monotonic)
        routes = Routes(config, catalog)
        dispatch = Dispatch(bus, self._id, config, catalog.slots, catalog.holders)
        self._watch = Watch(bus, config, dispatch, catalog)
        await _surely(self._watch.make_streams)
        edge = config.ingress
        replies = Replies(bus, self._id, dispatch, edge.max_buffer, edge.max_answer)
        await replies.open()
        await self._watch.open()
        await _surely(self._watch.learn)
        await bus.serve(
            "headrace-ingress",
            f"Headrace ingress at {where}",
            {"ingress": self._id, "address": where},
            metadata.version("headrace"),
        )
        return Context(config, bus, catalog, routes, dispatch, Keys(config.keys))


def _end(context: Context) -> None:
    """The time of answers is up: their clients are told, and holders of jobs stop."""
    why = "This ingress is shutting down, and the answer took too long. Send the request again."
    for ticket in list(context.dispatch.tickets.values()):
        ticket.fail(ShuttingDown(why, retry_after=1))


class Server(uvicorn.Server):
    """Logs its address once it listens, and leaves signals to `Ingress`."""

    def install_signal_handlers(self) -> None: ...

    def capture_signals(self):  # type: ignore[no-untyped-def]
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in self.servers:
            host, port, *_ = listener.sockets[0].getsockname()
            log.info("ingress.listening", url=f"http://{_address(host, port)}")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bound(host: str, port: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """A socket for each address of `host`, bound before anything else begins, so that a taken port
    is found at once. Nobody can connect until the server listens."""
    bound = []
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            # Without this, a port whose last owner has just ended would count as taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # without this, "::" would take 0.0.0.0, too
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            bound.append(listener)
    except OSError as fault:
        raise ListenFailed(
            f"the ingress cannot listen on {host}:{port}: {fault.strerror or fault}. "
            "Name another address with --host and --port"
        ) from None
    return bound


async def _surely(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask JetStream, however long it takes to come up. Raises BusDenied."""
    while True:
        try:
            await ask()
            return
        except BusDenied:
            raise
        except BusError as fault:
            log.warning("ingress.waiting", error=str(fault))
            await asyncio.sleep(0.5)
