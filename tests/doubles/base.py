"""What every simulated engine has: a port, slots, a pace, and a record of what happened to it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import orjson
from aiohttp import web

PATIENCE = 10.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Event:
    """`what`: asked, started, finished, left (the client went), and what a server adds."""

    what: str
    about: Any = None


@dataclass(slots=True)
class Slots:
    """At most `size` at once; the others wait in their order."""

    size: int
    running: int = 0
    waiting: int = 0
    _free: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        self.waiting += 1
        try:
            async with self._free:
                await self._free.wait_for(lambda: self.running < self.size)
                self.running += 1
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self.running -= 1
            async with self._free:
                self._free.notify()


class Sim:
    """A server on a free port of loopback, from ``async with`` on.

    `token_s`: seconds between tokens. `may_generate`: while it is clear, nothing is generated
    (it is set at first). `fail_after`: tokens after which generation fails, -1 for never.
    """

    headers: ClassVar[Mapping[str, str]] = {}
    """What the real server sends with everything."""
    patient: ClassVar[bool] = False
    """Whether it goes on when its client has left."""

    def __init__(self) -> None:
        self.url = ""
        self.token_s = 0.0
        self.fail_after = -1
        self.may_generate = asyncio.Event()
        self.may_generate.set()
        self.events: list[Event] = []
        self.heads: list[dict[str, str]] = []
        """The headers of all requests, in lower case."""
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def missing(self, fault: web.HTTPException) -> web.Response:
        """The answer to an unknown path or a wrong method."""
        raise NotImplementedError

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._middleware], client_max_size=64 * 2**20)
        app.add_routes(self.routes())
        app.on_response_prepare.append(self._dress)
        self._runner = web.AppRunner(
            app, handler_cancellation=not self.patient, access_log=None, shutdown_timeout=1.0
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.may_generate.set()
        await self.stop()

    async def note(self, what: str, about: Any = None) -> None:
        async with self._news:
            self.events.append(Event(what, about))
            self._news.notify_all()

    async def seen(self, what: str, count: int = 1) -> list[Any]:
        """Wait until `what` has happened `count` times; what it was about each time."""

        def found() -> list[Any]:
            return [event.about for event in self.events if event.what == what]

        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(found()) >= count)
        return found()

    async def sent(self, path: str, count: int) -> None:
        """Wait until `path` has been asked `count` times."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.asked(path)) >= count)

    def asked(self, path: str) -> list[Any]:
        """The bodies that were sent to `path` so far."""
        return [e.about[1] for e in self.events if e.what == "asked" and e.about[0] == path]

    async def tick(self, index: int) -> bool:
        """One token's time; False if generation fails now."""
        await self.may_generate.wait()
        if self.token_s:
            await asyncio.sleep(self.token_s)
        return index != self.fail_after

    @property
    def _middleware(self) -> Any:
        @web.middleware
        async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
            raw = await request.read()
            self.heads.append({name.lower(): value for name, value in request.headers.items()})
            try:
                body = orjson.loads(raw) if raw else None
            except orjson.JSONDecodeError:
                body = raw
            await self.note("asked", (request.path, body))
            try:
                return await handler(request)
            except web.HTTPException as fault:
                return self.missing(fault)
            except (asyncio.CancelledError, ConnectionError):
                await asyncio.shield(self.note("left", request.path))
                raise

        return run

    async def _dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """The real server's headers in place of aiohttp's own."""
        for name in ("Server", "Date"):
            response.headers.pop(name, None)
        response.headers.update(self.headers)


def document(
    body: Any, status: int = 200, content_type: str = "application/json", end: bytes = b""
) -> web.Response:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(body=raw + end, status=status, headers={"Content-Type": content_type})


async def stream(request: web.Request, content_type: str) -> web.StreamResponse:
    """An open chunked answer: its head is sent now."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


def sse(body: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(body) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def instance(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """The least that fits a JSON schema: what a constrained model would be held to. `root`: where
    its references begin."""
    root = schema if root is None else root
    if "$ref" in schema:
        return instance(_referred(schema["$ref"], root), root)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return instance(choices[0], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema.get("type"):
        case "object":
            fields = schema.get("properties") or {}
            return {key: instance(sub, root) for key, sub in fields.items()}
        case "array":
            item = instance(schema.get("items") or {}, root)
            return [item] * int(schema.get("minItems", 1))
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case _:
            return "word"


def _referred(pointer: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for key in pointer.removeprefix("#").split("/")[1:]:
        found = found[key]
    return found


def words_of(content: Any) -> list[str]:
    """The words of a message's content, in parts or not; a word is a token here."""
    if isinstance(content, list):
        return [w for part in content for w in words_of(part.get("text") or "")]
    return str(content or "").split()


def main(server: Sim) -> None:
    """Run as a process; prints ``{"url": …, "pid": …}`` once it listens."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-ms", type=float, default=0.0)
    options = parser.parse_args()
    server.token_s = options.token_ms / 1000

    async def run() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        await server.start(options.port)
        print(orjson.dumps({"url": server.url, "pid": os.getpid()}).decode(), flush=True)
        await stopped.wait()
        await server.stop()

    asyncio.run(run())
