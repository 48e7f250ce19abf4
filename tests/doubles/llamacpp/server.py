"""A llama-server without a model: its slots, its queue, its pace and its bytes, at next to no cost.

    python -m tests.doubles.llamacpp.server --port 0 --slots 32 --token-ms 0 --tokens 32

It prints one line, ``{"url": …, "pid": …}``, once it listens. At most `slots` requests generate;
the others wait in order of arrival and get no byte. A streaming client that goes frees its slot at
once; one that does not stream is generated for to the end, as llama-server does under load.
Of llama-server's fields it acts on `stream`, `stream_options.include_usage`, `max_tokens`,
`max_completion_tokens` and `n_predict`; there is one choice, whatever `n` says.
A connection ends after 100 requests or 5 idle seconds, as llama-server's do.

What llama-server does not have: ``GET /mock/events?after=N`` (what happened to each request, times
of the monotonic clock, which processes of one machine share), and ``POST /mock/settings``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, cast

import httptools
import orjson
import uvloop

from tests.doubles.llamacpp import pages, wire
from tests.doubles.llamacpp.slots import Engine, Job, Refused, Settings

GENERATE: dict[str, tuple[wire.Kind, str]] = {
    "/v1/chat/completions": ("chat", "messages"),
    "/chat/completions": ("chat", "messages"),
    "/v1/completions": ("text", "prompt"),
}
_TEXT = b"text/plain; version=0.0.4"


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed request; `path` with its query."""

    method: bytes
    path: str
    body: bytes
    keep: bool


class Connection(asyncio.Protocol):
    """One client. Requests sent ahead wait until the reply before them has ended."""

    def __init__(self, server: Server) -> None:
        self.server, self.engine = server, server.engine
        self.keep = True
        self.queue: deque[Request] = deque()
        self.current: Job | None = None
        self.served, self.idle_since = 0, time.monotonic()
        self.url, self.body = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)
        self.server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.open.discard(self)
        self.queue.clear()
        if self.current:
            self.engine.drop(self.current)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.keep = False
            self._answer(400, b"")

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        method, keep = self.parser.get_method(), self.parser.should_keep_alive()
        self.queue.append(Request(method, self.url.decode("latin-1"), self.body, keep))
        self.url, self.body = b"", b""
        if not self.current:
            self._serve()

    def _serve(self) -> None:
        while self.queue and not self.current and not self.transport.is_closing():
            request = self.queue.popleft()
            self.served += 1
            self.keep = request.keep and self.served < wire.KEEP_ALIVE_MAX
            if request.method == b"POST" and request.path in GENERATE:
                self._generate(request)
            else:
                self._answer(*self.server.answer(request))

    def _generate(self, request: Request) -> None:
        kind, required = GENERATE[request.path]
        try:
            job = Job(self, _asked(request.body, required), kind, self.engine.settings)
        except Refused as refusal:
            self._answer(400, wire.error(400, str(refusal)))
            return
        self.current = job
        self.engine.submit(job)

    def _answer(self, status: int, body: bytes, more: bytes = b"", kind: bytes = wire.JSON) -> None:
        self.write(wire.head(status, len(body), self.keep, kind, more) + body)
        self._replied()

    def write(self, data: bytes) -> None:
        """Send `data`, unless the client has gone."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def finished(self) -> None:
        """The engine has written the last byte of the current job."""
        self.current = None
        self._replied()
        if self.queue:
            self.engine.loop.call_soon(self._serve)

    def _replied(self) -> None:
        self.idle_since = time.monotonic()
        if not self.keep:
            self.transport.close()

    def close_idle(self, oldest: float) -> None:
        """Close the connection if its last reply was before `oldest`."""
        if not self.current and self.idle_since < oldest:
            self.transport.close()


class Server:
    """The paths that cost no slot, and the connections."""

    def __init__(self, settings: Settings) -> None:
        self.engine = Engine(settings)
        self.open: set[Connection] = set()

    async def listen(self, port: int = 0) -> tuple[asyncio.Server, str]:
        """Listen on loopback; return the server and its URL."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port, backlog=1024)
        return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def sweep(self) -> None:
        """Close idle connections, for ever."""
        while True:
            await asyncio.sleep(0.5)
            oldest = time.monotonic() - wire.KEEP_ALIVE_SECONDS
            for connection in list(self.open):
                connection.close_idle(oldest)

    def answer(self, request: Request) -> tuple[int, bytes] | tuple[int, bytes, bytes, bytes]:
        """Status, body and, where they are not the usual ones, header lines and content type."""
        engine, path = self.engine, request.path.partition("?")[0]
        if request.method == b"POST" and path == "/mock/settings":
            return self._set(request.body)
        if request.method == b"GET" and path == "/metrics":
            body = pages.metrics(engine.counts, len(engine.busy), len(engine.waiting))
            return 200, body, b"Process-Start-Time-Unix: %d\r\n" % pages.STARTED, _TEXT
        page = self._page(request.path) if request.method == b"GET" else None
        if page is None:
            return 404, wire.error(404, "File Not Found", "not_found_error")
        return 200, page

    def _page(self, target: str) -> bytes | None:
        path, _, query = target.partition("?")
        settings = self.engine.settings
        match path:
            case "/health" | "/v1/health":
                return b'{"status":"ok"}'
            case "/props":
                return pages.props(settings.slots, settings.model)
            case "/slots":
                return self.engine.slots_page()
            case "/models" | "/v1/models":
                return pages.models(settings.model)
            case "/mock/events":
                return self.engine.events_page(int(query.partition("after=")[2] or 0))
            case "/mock/settings":
                return orjson.dumps(asdict(settings))
        return None

    def _set(self, body: bytes) -> tuple[int, bytes]:
        try:
            self.engine.reset(orjson.loads(body))
        except (ValueError, TypeError) as fault:
            return 400, wire.error(400, str(fault))
        return 200, orjson.dumps(asdict(self.engine.settings))


def _asked(body: bytes, required: str) -> dict[str, Any]:
    """The request's body; raises Refused with llama-server's words."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise Refused(f"[json.exception.parse_error.101] {fault}") from None
    if not isinstance(asked, dict) or required not in asked:
        missing = "[json.exception.out_of_range.403] key 'prompt' not found"
        raise Refused("'messages' is required" if required == "messages" else missing)
    if required == "messages" and not isinstance(asked["messages"], list):
        raise Refused("Expected 'messages' to be an array")
    return asked


async def serve(settings: Settings, port: int) -> None:
    """Announce the URL on stdout and serve until SIGTERM or SIGINT."""
    mock = Server(settings)
    server, url = await mock.listen(port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sweeping = asyncio.create_task(mock.sweep())
    print(orjson.dumps({"url": url, "pid": os.getpid()}).decode(), flush=True)
    await stop.wait()
    server.close()
    sweeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeping


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="mock_llama", description="llama-server without a model")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--token-ms", type=float, default=0.0, help="time of one token")
    parser.add_argument("--tokens", type=int, default=32, help="most tokens of a reply")
    parser.add_argument("--burst", action="store_true", help="write a stream at once")
    parser.add_argument("--model", default="mock")
    given = vars(parser.parse_args())
    port = given.pop("port")
    try:
        settings = Settings(**given)
    except ValueError as fault:
        parser.error(str(fault))
    uvloop.run(serve(settings, port))


if __name__ == "__main__":
    main()
