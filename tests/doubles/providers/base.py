"""What every simulated provider has: a port, a key, a pace, faults, limits, and a record."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Self

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from tests.doubles.base import document
from tests.doubles.providers import control
from tests.doubles.providers.faults import Fault, Faults, Refused
from tests.doubles.providers.pace import Limits, Pace
from tests.doubles.providers.record import Connection, Exchange, Record, State

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
EXCHANGE = web.RequestKey("exchange", Exchange)
FAULT = web.RequestKey("fault", Fault)


class Provider:
    """A provider on a free port of loopback, from ``async with`` on.

    `key`: the only one it takes; None for any. `models`: beside the provider's own.
    """

    name: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    """What a client's base URL ends with."""
    known: ClassVar[Mapping[str, str]] = {}
    """Models: as asked for, and as named in answers."""

    def __init__(self, *, key: str | None = None, models: tuple[str, ...] = ()) -> None:
        self.key = key
        self.models = {**self.known, **{model: model for model in models}}
        self.url = ""
        self.pace = Pace()
        self.faults = Faults()
        self.limits = Limits()
        self.record = Record()
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._open: dict[RequestHandler, Connection] = {}

    # What a provider brings

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def secret(self, request: web.Request) -> str | None:
        """The key that came with a request; None without one."""
        scheme, _, found = request.headers.get("Authorization", "").partition(" ")
        return found if scheme.lower() == "bearer" else None

    def unauthorized(self, found: str | None) -> Refused:
        """What a wrong key gets, or None."""
        raise NotImplementedError

    def error(self, refused: Refused, exchange: Exchange) -> web.Response:
        """The provider's own error document, with its headers."""
        raise NotImplementedError

    def dressing(self, exchange: Exchange) -> Mapping[str, str]:
        """The headers of every answer."""
        return {}

    def admit(self, request: web.Request) -> None:
        """Raises Refused, for a wrong key first of all."""
        found = self.secret(request)
        if self.key is not None and not hmac.compare_digest(found or "", self.key):
            raise self.unauthorized(found)

    # Life

    @property
    def base_url(self) -> str:
        return self.url + self.prefix

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._middleware], client_max_size=64 * 2**20)
        app.add_routes([*control.routes(self), *self.routes()])
        app.on_response_prepare.append(self._dress)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        await self._runner.setup()
        self._port = port
        await self.up()

    async def stop(self) -> None:
        await self.down()
        if self._runner is not None:
            self._close(lambda connection: True)
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def up(self) -> None:
        """Listen, on the port of before."""
        if self._listener is None:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(self._accept, "127.0.0.1", self._port)
            self._port = self._listener.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{self._port}"

    async def down(self, *, running: bool = True) -> None:
        """Refuse connections until `up`. Idle ones are closed, and `running` ones too."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._close(lambda one: not one.control and (running or not one.running))

    def _close(self, which: Callable[[Connection], bool]) -> None:
        closed = {h: c for h, c in self._open.items() if which(c)}
        numbers = {connection.number for connection in closed.values()}
        for exchange in self.record.live:
            if exchange.connection in numbers:
                exchange.end("cut")
        for handler in closed:
            if handler.transport is not None:
                handler.transport.abort()
        self.record.changed()

    def _accept(self) -> RequestHandler:
        assert self._runner is not None
        assert self._runner.server is not None
        handler = self._runner.server()
        self._open[handler] = self.record.connected()
        return handler

    # What tests wait for

    async def seen(self, requests: int) -> list[Exchange]:
        """Wait until so many requests have come in all."""
        record = self.record
        await record.until(lambda: len(record.requests) >= requests, f"seen {requests}")
        return record.requests

    async def quiet(self) -> None:
        """Wait until no request runs."""
        await self.record.until(lambda: not self.record.running, "quiet")

    async def ended(self, state: State, requests: int = 1) -> list[Exchange]:
        """Wait until so many have ended like that: "aborted", "cut", "finished" ..."""
        record = self.record
        await record.until(lambda: record.count(state) >= requests, f"{requests} {state}")
        return record.where(state=state)

    async def generated(self, tokens: int) -> None:
        """Wait until some running request has `tokens` of output."""

        def some() -> bool:
            return any(one.used.output >= tokens for one in self.record.live)

        await self.record.until(some, f"{tokens} tokens")

    # One request

    @property
    def _middleware(self) -> Any:
        @web.middleware
        async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
            handler_of: Any = request.protocol
            connection = self._open[handler_of]
            if request.path.startswith(control.PREFIX):
                connection.control = not connection.requests
                return await handler(request)
            return await self._exchange(request, handler, connection)

        return run

    async def _exchange(
        self, request: web.Request, handler: Handler, connection: Connection
    ) -> web.StreamResponse:
        exchange = self._begin(request, connection)
        try:
            await _read(request, exchange)
            self.record.opened(exchange)
            response = await self._answer(request, handler, exchange)
            exchange.status = response.status
            exchange.end("refused" if response.status >= 400 else "finished")
        except (asyncio.CancelledError, ConnectionError):
            exchange.end("aborted")
            raise
        except Exception:
            exchange.end("broken")  # a fault of this simulator: its log tells
            raise
        finally:
            connection.running -= 1
            self.record.changed()
        return response

    def _begin(self, request: web.Request, connection: Connection) -> Exchange:
        connection.requests += 1
        connection.control = False
        connection.running += 1
        exchange = Exchange(
            number=len(self.record.requests),
            connection=connection.number,
            at=time.monotonic(),
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        request[EXCHANGE] = exchange
        return exchange

    async def _answer(
        self, request: web.Request, handler: Handler, exchange: Exchange
    ) -> web.StreamResponse:
        exchange.model = exchange.model or self.model_in(request, exchange)
        try:
            self.admit(request)
            fault = self.faults.take(exchange.model, request.method, request.path)
            request[FAULT], exchange.fault = fault, fault.name
            await self.pace.head(fault.head_s)
            if fault.after is None and fault.act != "answer":
                return await self._strike(request, fault)
            return await handler(request)
        except Refused as refused:
            return self.error(refused, exchange)
        except web.HTTPException as fault:
            return self.error(Refused(fault.status, code="path"), exchange)

    def model_in(self, request: web.Request, exchange: Exchange) -> str:
        body = exchange.body
        named = body.get("model") if isinstance(body, dict) else None
        return str(named or request.match_info.get("model") or "")

    async def _strike(self, request: web.Request, fault: Fault) -> web.Response:
        """A fault before the head."""
        exchange = request[EXCHANGE]
        if fault.act == "cut":
            await self.break_off(request, fault)
        if fault.act == "hang":
            await asyncio.Event().wait()
        response = self.error(fault.refusal(), exchange)
        if fault.body is not None:
            raw = fault.body if isinstance(fault.body, bytes) else orjson.dumps(fault.body)
            made = document(raw, fault.status)
            made.headers.update({k: v for k, v in response.headers.items() if _own(k)})
            response = made
        response.headers.update(fault.headers)
        return response

    async def break_off(self, request: web.Request, fault: Fault) -> None:
        """Close the connection; does not come back."""
        request[EXCHANGE].end("cut")
        self.record.changed()
        control.close(request.transport, fault.reset)
        await asyncio.Event().wait()

    async def _dress(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)
        if EXCHANGE in request:
            for name, value in self.dressing(request[EXCHANGE]).items():
                response.headers.setdefault(name, value)


def _own(header: str) -> bool:
    return header.lower() not in ("content-type", "content-length")


async def _read(request: web.Request, exchange: Exchange) -> None:
    """The body: JSON, a form, or bytes."""
    if request.content_type.startswith("multipart/"):
        exchange.body = {}
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                with value.file as file:
                    exchange.files.setdefault(name, []).append(file.read())
                exchange.body[name] = value.filename
            else:
                exchange.body[name] = str(value)
    else:
        raw = await request.read()
        try:
            exchange.body = orjson.loads(raw) if raw else None
        except orjson.JSONDecodeError:
            exchange.body = raw
    body = exchange.body if isinstance(exchange.body, dict) else {}
    exchange.stream = body.get("stream") in (True, "true")


def ident(prefix: str, size: int = 14) -> str:
    return prefix + secrets.token_hex(size)
