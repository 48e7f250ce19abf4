"""One client's connection to the double of llama-server: requests in, in order, and their bytes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httptools
import orjson

from tests.doubles.llamacpp import wire
from tests.doubles.llamacpp.slots import Engine, Job, Refused

GENERATE: dict[str, tuple[wire.Kind, str]] = {
    "/v1/chat/completions": ("chat", "messages"),
    "/chat/completions": ("chat", "messages"),
    "/v1/completions": ("text", "prompt"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed request; `path` with its query."""

    method: bytes
    path: str
    body: bytes
    keep: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """`more` are whole header lines."""

    status: int
    body: bytes
    more: bytes = b""
    kind: bytes = wire.JSON


class Server(Protocol):
    """What connections ask of their server."""

    engine: Engine
    open: set[Connection]

    def hear(self, request: Request) -> None:
        """Take note of it."""

    def told(self, request: Request) -> Answer | Sequence[bytes] | None:
        """What a test has it say: a document, or the pieces of a stream."""

    def answer(self, request: Request) -> Answer:
        """To what costs no slot."""


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
            self._answer(Answer(400, b""))

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
            self.server.hear(request)
            if (told := self.server.told(request)) is not None:
                self._say(told)
            elif request.method == b"POST" and request.path in GENERATE:
                self._generate(request)
            else:
                self._answer(self.server.answer(request))

    def _say(self, told: Answer | Sequence[bytes]) -> None:
        if isinstance(told, Answer):
            self._answer(told)
            return
        self.write(wire.stream_head(self.keep))
        for piece in (*told, b""):
            self.write(wire.chunk(piece))
        self._replied()

    def _generate(self, request: Request) -> None:
        kind, required = GENERATE[request.path]
        try:
            job = Job(self, _asked(request.body, required), kind, self.engine.settings)
        except Refused as refusal:
            self._answer(Answer(400, wire.error(400, str(refusal))))
            return
        self.current = job
        self.engine.submit(job)

    def _answer(self, what: Answer) -> None:
        head = wire.head(what.status, len(what.body), self.keep, what.kind, what.more)
        self.write(head + what.body)
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
    if required == "messages" and any(map(_says_nothing, asked["messages"])):
        raise Refused("Assistant message must contain either 'content' or 'tool_calls'!")
    return asked


def _says_nothing(message: Any) -> bool:
    """Thoughts alone are no answer: a ``content`` must be there, if only an empty one."""
    assistant = isinstance(message, dict) and message.get("role") == "assistant"
    return assistant and message.keys().isdisjoint(("content", "tool_calls"))
