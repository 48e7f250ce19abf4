"""A llama-server without a model: its slots, its queue, its pace and its bytes, at next to no cost.

    python -m tests.doubles.llamacpp.server --port 0 --slots 32 --token-ms 0 --tokens 32

It prints one line, ``{"url": …, "pid": …}``, once it listens. At most `slots` requests generate;
the others wait in order of arrival and get no byte. A streaming client that goes frees its slot at
once; one that does not stream is generated for to the end, as llama-server does under load.
Of llama-server's fields it acts on `stream`, `stream_options.include_usage`, `max_tokens`,
`max_completion_tokens` and `n_predict`; there is one choice, whatever `n` says.
A connection ends after 100 requests or 5 idle seconds, as llama-server's do.

A test has it say something else (see `LlamaCpp`), or looks at it from another process:
``GET /mock/events?after=N`` (what happened to each request, times of the monotonic clock, which
processes of one machine share), and ``POST /mock/settings``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import orjson
import uvloop

from tests.doubles.llamacpp import pages, script, wire
from tests.doubles.llamacpp.connection import Answer, Connection, Request
from tests.doubles.llamacpp.slots import Engine, Settings

_TEXT = b"text/plain; version=0.0.4"
_KEPT = 1000
"""Requests that `asked` knows."""


class LlamaCpp:
    """`async with` listens on a free port of loopback, at `url`.

    What a test may change, at any time: `props` (its page), `slots` (the page, if it is not to be
    true), and what it says instead of what it generates: `streams`, by path the pieces of the
    answer to a request for a stream; `documents`, by path the answer to all others.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.url = ""
        self.engine = Engine(settings or Settings())
        self.open: set[Connection] = set()
        self.props = self._props()
        self.slots: Any = None
        self.streams: dict[str, list[bytes]] = {}
        self.documents = script.usual()
        self._heard: deque[Request] = deque(maxlen=_KEPT)
        self._listening: asyncio.Server | None = None

    def _props(self) -> dict[str, Any]:
        settings = self.engine.settings
        return pages.props(settings.slots, settings.model, bool(settings.thoughts))

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def listen(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", port, backlog=1024
        )
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._listening is not None
        self._listening.close()
        for connection in list(self.open):
            connection.transport.abort()
        await self._listening.wait_closed()

    def asked(self, path: str) -> list[Any]:
        """The bodies that were sent to `path` so far."""
        return [orjson.loads(r.body) if r.body else None for r in self._heard if r.path == path]

    async def sweep(self) -> None:
        """Close idle connections, for ever."""
        while True:
            await asyncio.sleep(0.5)
            oldest = time.monotonic() - wire.KEEP_ALIVE_SECONDS
            for connection in list(self.open):
                connection.close_idle(oldest)

    def hear(self, request: Request) -> None:
        self._heard.append(request)

    def told(self, request: Request) -> Answer | Sequence[bytes] | None:
        """What a test has it say."""
        if request.method != b"POST":
            return None
        path = request.path
        if path in self.streams and orjson.loads(request.body).get("stream"):
            return self.streams[path]
        if path not in self.documents:
            return None
        status, body = self.documents[path]
        return Answer(status, orjson.dumps(body))

    def answer(self, request: Request) -> Answer:
        """To what costs no slot."""
        engine, path = self.engine, request.path.partition("?")[0]
        if request.method == b"POST" and path == "/mock/settings":
            return self._set(request.body)
        if engine.settings.continues and path == "/apply-template":
            thinks = bool(engine.settings.thoughts)
            return Answer(200, pages.prompt(orjson.loads(request.body), thinks))
        if engine.settings.continues and path == "/tokenize":
            return Answer(200, pages.tokens(orjson.loads(request.body)))
        if request.method == b"GET" and path == "/metrics":
            body = pages.metrics(engine.counts, len(engine.busy), len(engine.waiting))
            return Answer(200, body, b"Process-Start-Time-Unix: %d\r\n" % pages.STARTED, _TEXT)
        page = self._page(request.path) if request.method == b"GET" else None
        if page is None:
            return Answer(404, wire.error(404, "File Not Found", "not_found_error"))
        return Answer(200, page)

    def _page(self, target: str) -> bytes | None:
        path, _, query = target.partition("?")
        settings = self.engine.settings
        match path:
            case "/health" | "/v1/health":
                return b'{"status":"ok"}'
            case "/props":
                return orjson.dumps(self.props)
            case "/slots":
                busy = self.engine.slots_page() if self.slots is None else self.slots
                return orjson.dumps(busy)
            case "/models" | "/v1/models":
                return pages.models(settings.model)
            case "/mock/events":
                return self.engine.events_page(int(query.partition("after=")[2] or 0))
            case "/mock/settings":
                return orjson.dumps(asdict(settings))
        return None

    def _set(self, body: bytes) -> Answer:
        try:
            self.engine.reset(orjson.loads(body))
        except (ValueError, TypeError) as fault:
            return Answer(400, wire.error(400, str(fault)))
        return Answer(200, orjson.dumps(asdict(self.engine.settings)))


async def serve(settings: Settings, port: int) -> None:
    """Announce the URL on stdout and serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = LlamaCpp(settings)
    await server.listen(port)
    sweeping = asyncio.create_task(server.sweep())
    print(orjson.dumps({"url": server.url, "pid": os.getpid()}).decode(), flush=True)
    await stop.wait()
    sweeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeping
    await server.close()


def main() -> None:
    """Command line; see the module's docstring."""
    usual = Settings()
    parser = argparse.ArgumentParser(description="llama-server without a model")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=usual.slots)
    parser.add_argument("--token-ms", type=float, default=usual.token_ms, help="of one token")
    parser.add_argument("--tokens", type=int, default=usual.tokens, help="most of a reply")
    parser.add_argument("--burst", action="store_true", help="write a stream at once")
    parser.add_argument("--parrot", action="store_true", help="say what it was told")
    parser.add_argument("--continues", action="store_true", help="go on with begun answers")
    parser.add_argument("--thoughts", type=int, default=0, help="tokens before the text of a chat")
    parser.add_argument("--model", default=usual.model)
    given = vars(parser.parse_args())
    port = given.pop("port")
    try:
        settings = Settings(**given)
    except ValueError as fault:
        parser.error(str(fault))
    uvloop.run(serve(settings, port))


if __name__ == "__main__":
    main()
