"""One HTTP/1.1 connection for the load: cheap, exact about times, and deaf to all but tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import httptools
import orjson


@dataclass(frozen=True)
class Reply:
    """What a body said: its text, the data events of a stream, and whether it came to its end."""

    text: str
    chunks: int
    complete: bool


class Exchange:
    """A request's reply as it comes in. `cut_after` > 0: leave the stream after so many tokens.

    Times: `first` is that of the first event with text (of a reply that is not streamed: the end);
    `times` those of all of them, if `timed`.
    """

    __slots__ = (
        "_line", "_pieces", "cut", "cut_after", "end", "first", "reads", "retry_after", "status",
        "stream", "timed", "times", "tokens",
    )  # fmt: skip

    def __init__(self, stream: bool, cut_after: int = 0, timed: bool = False) -> None:
        self.stream, self.cut_after, self.timed = stream, cut_after, timed
        self.times: list[float] = []
        self.status = self.reads = self.tokens = 0
        self.retry_after = ""
        self.first: float | None = None
        self.end: float | None = None
        self.cut: float | None = None
        self._pieces: list[bytes] = []
        self._line = b""

    @property
    def raw(self) -> bytes:
        """The body so far."""
        return b"".join(self._pieces)

    def feed(self, piece: bytes) -> bool:
        """Take a piece of the body; True once it is time to leave."""
        self._pieces.append(piece)
        if not self.stream or (self.first and not self.cut_after and not self.timed):
            return False
        *lines, self._line = (self._line + piece).split(b"\n")
        for data in _data(lines):
            if _said(data):
                self.first = self.first or time.monotonic()
                self.tokens += 1
                if self.timed:
                    self.times.append(time.monotonic())
        return 0 < self.cut_after <= self.tokens

    def read(self) -> Reply:
        """The body's meaning; anything that is no such body is an incomplete reply."""
        if self.status != 200:
            return Reply("", 0, False)
        if self.stream:
            events = list(_data(self.raw.split(b"\n")))
            done = bool(events) and events[-1] == b"[DONE]"
            text = "".join(map(_said, events))
            return Reply(text, len(events) - done, done and self.end is not None)
        try:
            said = orjson.loads(self.raw)["choices"][0]["message"]["content"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            return Reply("", 0, False)
        return Reply(said, 0, self.end is not None)


def _data(lines: list[bytes]) -> Iterator[bytes]:
    """The data of SSE lines; comments and other fields are none."""
    return (line[5:].strip() for line in lines if line.startswith(b"data:"))


def _said(data: bytes) -> str:
    """Text of a chat chunk; "" if it has none."""
    if data == b"[DONE]":
        return ""
    try:
        event: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ""
    return "".join(c["delta"].get("content") or "" for c in event.get("choices", ()))


class Link(asyncio.Protocol):
    """A connection, for one exchange at a time."""

    def __init__(self) -> None:
        self.usable = False
        self._exchange: Exchange | None = None
        self._done: asyncio.Future[None] | None = None

    async def send(self, data: bytes, exchange: Exchange) -> None:
        """Send a request and return when its reply has ended or was left.

        Raises ConnectionError if the connection ends before.
        """
        if not self.usable:
            raise ConnectionResetError("closed before the request")
        self._exchange = exchange
        self._done = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(data)
        await self._done

    def abort(self) -> None:
        """Close without a word."""
        self.usable = False
        self._exchange = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._exchange:
            self._finish(ConnectionResetError("closed before the end of the reply"))

    def data_received(self, data: bytes) -> None:
        if self._exchange:
            self._exchange.reads += 1
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as fault:
                self._finish(ConnectionAbortedError(f"not HTTP: {fault}"))
                self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange and name.lower() == b"retry-after":
            self._exchange.retry_after = value.decode()

    def on_headers_complete(self) -> None:
        if self._exchange:
            self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._exchange and self._exchange.feed(body):
            self._exchange.cut = time.monotonic()
            self._finish(None)
            self.abort()

    def on_message_complete(self) -> None:
        if self._exchange:
            self._exchange.end = time.monotonic()
            self._exchange.first = self._exchange.first or self._exchange.end
            self.usable = self._parser.should_keep_alive()
            if not self.usable:
                self._transport.close()
            self._finish(None)

    def _finish(self, fault: Exception | None) -> None:
        self._exchange = None
        if self._done and not self._done.done():
            if fault:
                self._done.set_exception(fault)
            else:
                self._done.set_result(None)
