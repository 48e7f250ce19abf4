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
from functools import partial
from importlib import metadata

import structlog
import uvicorn

from ingress.app import Entry, build
from ingress.context import Context
from ingress.http import descriptors
from ingress.http.auth import Keys, principal
from ingress.http.connections import Connections
from ingress.http.listeners import ListenFailed, bound, port_of
from ingress.http.protocol import protocol
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.peers import Peers
from ingress.jobs.pulse import until_next
from ingress.jobs.replies import Replies
from ingress.jobs.watch import Watch
from ingress.keys.book import KeyBook
from ingress.limits.limiter import Limiter
from ingress.limits.store import Vault
from ingress.models.catalog import Catalog
from ingress.models.roster import Roster
from ingress.models.routes import Routes
from ingress.own_keys import OwnKeys
from ingress.siblings import Siblings, part
from ingress.webhook import Webhook
from schemas import bus as buses
from schemas import settings, subjects
from schemas.bus import Bus, BusDenied, BusError
from schemas.errors import ShuttingDown
from schemas.identity import Identity
from schemas.jetstream.alarm import Alarm
from schemas.otel.opened import opened
from schemas.settings import Settings, SettingsError
from schemas.watched import watched

log = structlog.get_logger("ingress")


LAST_WORDS = 2.0
"""Seconds that clients have to take the error with which an answer ends when a drain is over."""


DATED = 0.5
"""Seconds after which the date of answers is written anew."""
STORE_PATIENCE = 5.0
"""Seconds that a start waits for the store of keys."""


class Ingress:
    """One ingress process. `run` returns once it has drained."""

    def __init__(
        self,
        config: Settings,
        more: Sequence[Entry] = (),
        read: Callable[[], Settings] | None = None,
        identity: Identity | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        """`more`: endpoints beside the API's own. `read`: reads the settings anew; raises
        SettingsError, as this does for a secret that cannot be read. `identity`: of one whose
        machine joined. `siblings`: of one of several processes."""
        if siblings is not None:
            config = config.model_copy(update={"ingress": part(config.ingress)})
        self._config = config
        self._siblings = siblings
        self._more = more
        self._read = read
        self._identity = identity
        self._id = f"in-{secrets.token_hex(4)}"
        self._stop = asyncio.Event()
        self._webhook = Webhook(config)
        self._telemetry = opened(config.otel, "ingress", self._id)

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises ListenFailed, BusError if the broker refuses the ingress."""
        config = self._config
        with contextlib.ExitStack() as stack:
            edge, shared = config.ingress, self._siblings is not None
            listeners = bound(edge.host, edge.port, stack, shared=shared)
            where = _address(edge.host, port_of(listeners))
            async with contextlib.AsyncExitStack() as links:  # closed also if one is refused
                inbox = f"{subjects.INBOX_INGRESS}.{self._id}"
                name = f"headrace-ingress/{self._id} {where}"
                bus = await buses.connect(config.nats, name, inbox)
                links.push_async_callback(bus.close)
                if self._telemetry is not None:
                    self._telemetry.start()
                    links.push_async_callback(self._telemetry.close)
                if (vault := await self._vault(where)) is not None:
                    links.push_async_callback(vault.close)
                await self._serve(listeners, where, bus, vault)

    async def _serve(
        self, listeners: list[socket.socket], where: str, bus: Bus, vault: Bus | None
    ) -> None:
        config = self._config
        keys = await self._keys(vault)
        context = await self._context(bus, vault, keys, where)
        await context.recent.open()
        self._heed_signals(context)
        server = self._server(context)
        serving = asyncio.create_task(server.serve(listeners))
        beside = self._beside(context, bus, vault)
        stopped = asyncio.create_task(self._stop.wait())
        closed = asyncio.create_task(bus.closed.wait())
        own = self._siblings
        told = None if own is None else await own.open(context.pictures)
        await asyncio.wait({serving, stopped, closed}, return_when=asyncio.FIRST_COMPLETED)
        context.draining = True
        log.info("ingress.draining", jobs=len(context.dispatch.tickets))
        server.leave()
        ending = asyncio.get_running_loop().call_later(config.ingress.drain, _end, context)
        # Answers end first, and then what they are made with.
        await serving
        context.recent.leave()
        ending.cancel()
        if told is not None:
            told.close()
        await self._close(context, beside)
        for task in (stopped, closed):
            task.cancel()
        if not self._stop.is_set() and closed.done():
            raise BusError("the broker closed the connection")
        log.info("ingress.ended")

    def _heed_signals(self, context: Context) -> None:
        """Not before there is something to drain: until then a signal may end the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload, context)

    def _server(self, context: Context) -> Server:
        edge = self._config.ingress
        return Server(
            uvicorn.Config(
                build(context, self._more),
                http=protocol(edge.max_head, _places(edge)),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=bool(edge.trusted_proxies),
                forwarded_allow_ips=edge.trusted_proxies,
                server_header=False,
                timeout_keep_alive=75,
                # Not before `_end` has told the clients.
                timeout_graceful_shutdown=math.ceil(edge.drain + LAST_WORDS),
            )
        )

    def _beside(self, context: Context, bus: Bus, vault: Bus | None) -> list[asyncio.Task[None]]:
        """The tasks that work beside requests as long as the process lives."""
        renewing = [] if self._identity is None else [OwnKeys(self._identity, bus, vault)]
        roster = Roster(bus, context.catalog, *(each.hear for each in renewing))
        dispatch = context.dispatch
        work = (
            watched("usage", dispatch.usage.run),
            watched("webhook", partial(self._webhook.run, bus)),
            watched("line", dispatch.line.run),
            roster.run(),
            *(each.run() for each in renewing),
        )
        return [asyncio.create_task(each) for each in work]

    async def _close(self, context: Context, beside: list[asyncio.Task[None]]) -> None:
        """End what answers were made with, and have counted what the last of them took."""
        await context.recordings.close()
        if context.cache is not None:
            await context.cache.close()
        await context.schema_checker.close()
        await context.media.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await context.dispatch.usage.flush()
        self._watch.close()
        self._peers.close()
        if context.keys.book is not None:
            await context.keys.book.close()
        await context.limiter.close()

    def _reload(self, context: Context) -> None:
        """Keys and routes as the settings say now. Requests that run are not touched."""
        try:
            found = self._read() if self._read is not None else self._config
        except SettingsError as fault:
            log.error("ingress.not_reloaded", error=str(fault))
            return
        context.keys.replace(found.keys)
        context.routes = Routes(found, context.catalog)
        log.info("ingress.reloaded", keys=len(found.keys), routes=len(found.route))

    async def _vault(self, where: str) -> Bus | None:
        """A connection to the broker's account with the keys. Raises BusError if it is refused."""
        config = self._config
        if not config.vault.given:
            why = "no login in [vault]: only keys of the configuration are known here"
            log.info("ingress.no_vault", why=why)
            return None
        inbox = f"{subjects.INBOX_KEYS}.{self._id}"
        try:
            login = config.vault.beside(config.nats)
            return await buses.connect(login, f"headrace-keys/{self._id} {where}", inbox)
        except BusError as fault:
            raise BusError(f"[vault]: {fault}") from None

    async def _keys(self, vault: Bus | None) -> Keys:
        """All keys. The store is waited for, but not for long: those of the configuration are good
        without it. Raises ListenFailed if there are none, and others could come."""
        config = self._config
        keys = Keys(config.keys, config.ingress.failed_keys)
        if vault is not None:
            away = config.ingress.vault_away
            keys.book = KeyBook(vault, away, config.nats.replicas, principal, keys.renew)
            keys.book.open()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(keys.book.opened.wait(), STORE_PATIENCE)
        if keys.none and not config.ingress.is_loopback:
            raise ListenFailed(
                f"the ingress does not listen on {config.ingress.host} without any API key: make "
                "one with 'headrace key create NAME', or name one in a table [[keys]]"
            )
        return keys

    async def _context(self, bus: Bus, vault: Bus | None, keys: Keys, where: str) -> Context:
        config = self._config
        catalog = Catalog(time.monotonic)
        routes = Routes(config, catalog)
        asked = catalog.slots, catalog.holders, catalog.nodes.places
        dispatch = Dispatch(bus, self._id, config, *asked)
        self._watch = Watch(bus, config, dispatch, catalog)
        await _surely(self._watch.make_streams)
        edge = config.ingress
        replies = Replies(bus, self._id, dispatch, edge.max_buffer, edge.max_answer)
        await replies.open()
        await dispatch.line.open(self._id)
        self._peers = Peers(bus, self._id, dispatch.queues, dispatch.claims)
        await self._peers.open()
        await dispatch.affine.open()
        await self._watch.open()
        await _surely(self._watch.learn)
        await bus.serve(
            "headrace-ingress",
            f"Headrace ingress at {where}",
            {"ingress": self._id, "address": where, **self._place()},
            metadata.version("headrace"),
        )
        store = None if vault is None else Vault(vault, config.nats.replicas)
        alarm = Alarm(bus, config.alerts.thresholds)
        limiter = Limiter(store, self._id, edge.limit_window, edge.broker_wait, alarm)
        return Context(
            config,
            bus,
            catalog,
            routes,
            dispatch,
            keys,
            vault,
            limiter,
            telemetry=self._telemetry,
            siblings=self._siblings,
        )

    def _place(self) -> dict[str, str]:
        """Which of several processes it is, for people."""
        own = self._siblings
        return {} if own is None else {"group": own.group, "process": f"{own.number}/{own.of}"}


def _end(context: Context) -> None:
    """The time of answers is up: their clients are told, and holders of jobs stop."""
    why = "This ingress is shutting down, and the answer took too long. Send the request again."
    for ticket in list(context.dispatch.tickets.values()):
        ticket.fail(ShuttingDown(why, retry_after=1))


def _places(edge: settings.Ingress) -> Connections:
    """Room for connections: others need files, too, bodies that wait above all."""
    files = descriptors.limit()
    if (most := files * 5 // 8) < edge.max_connections:
        log.warning("ingress.few_files", files=files, connections=most)
    most = min(edge.max_connections, most)
    return Connections(most, edge.connections_of_one, edge.trusted_proxies)


class Server(uvicorn.Server):
    """Logs its address once it listens, and leaves signals to `Ingress`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it is to end."""
        while not await self.on_tick(0):  # which writes the date that answers have
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_next(DATED)):
                    await self._leaving.wait()

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
