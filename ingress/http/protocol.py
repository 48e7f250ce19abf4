"""uvicorn's HTTP protocol, with limits on the head, the time and the requests of a connection."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingress.http.body import request_id
from ingress.http.half_closed import HalfClosed
from ingress.http.old_client import OldClientAnswer
from schemas.errors import HeadraceError, HeadTooLarge, InvalidRequest

log = structlog.get_logger("protocol")

CLIENT_GONE = "headrace.gone"
"""A request's state may hold a callable under this name. It is called when the client leaves before
its answer is complete. To wait for ASGI's disconnect message would take a task for each request
(measured: 25 µs)."""
PROBE = "headrace.probe"
"""And another callable: it sends the client something at once, if only a comment."""
BEGUN = "headrace.begun"
"""And bytes: events of a stream that the client has already. The answer goes on behind them."""
HEAD_TIMEOUT = 20.0
"""Seconds a client may take to send a request's head."""
BODY_TIMEOUT = 30.0
"""Seconds between two pieces of a request's body."""
PIPELINED = 64
"""Requests that a client may send on one connection ahead of their answers."""
_BEGINNING = b"H"
"""The first byte of every status line."""


class JoiningTransport:
    """A transport that joins all writes of one turn of the event loop into one system call. Uvicorn
    writes head and body apart, which takes 15 % of the CPU of a short answer (measured)."""

    def __init__(self, inner: asyncio.Transport) -> None:
        self._inner = inner
        self._ready: list[bytes] = []
        self._begun = 0
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        if not self._ready:
            self._call_soon(self._flush)
        self._ready.append(data)

    def begin(self) -> None:
        """Send the first byte of the next answer, whatever that may be."""
        if not self._begun and not self._ready:
            self._begun = 1
            self._inner.write(_BEGINNING)

    def close(self) -> None:
        self._flush()
        self._inner.close()

    def _flush(self) -> None:
        if self._ready:
            ready, self._ready = self._ready, []
            if not self._inner.is_closing():  # the client may have left in this very turn
                self._inner.write(b"".join(ready)[self._begun :])
            self._begun = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class StayingParser(httptools.HttpRequestParser):
    """A parser that stays with HTTP: if a head offers another protocol, it hands what came after
    the head to `LimitedProtocol.stay`."""

    def __init__(self, protocol: LimitedProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: bytes | bytearray | memoryview | array[int]) -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._protocol.stay(bytes(data)[offer.args[0] :]):
                raise


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits: on the size of a head, on bytes that belong to neither a
    head nor a body (trailers, chunk extensions), on the time that a request takes to come in, and
    on how many requests wait for the answer to an earlier one.

    A client may offer another protocol (Java's client offers HTTP/2 with every request). The parser
    takes the offer for the end of HTTP and would lose the body. So the head is parsed again without
    the offer.
    """

    max_head = 64 * 1024
    _in_head = True
    _moved = False
    _head = 0
    _running: Any = None
    _timer: asyncio.TimerHandle | None = None
    _half_closed: HalfClosed | None = None

    def connection_made(self, transport: Any) -> None:
        self.parser = self._parser()
        super().connection_made(JoiningTransport(transport))  # type: ignore[arg-type]
        self._start_timer(HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._half_closed is not None:
            self._half_closed.stop()
        running = self._running
        if running is not None and not running.response_complete:
            # uvicorn only tells the last request on the connection, which may be another one.
            running.disconnected = True
            running.message_event.set()
            gone = running.scope["state"].get(CLIENT_GONE)
            if gone is not None:
                gone()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays: who has asked, and says that this was all, is answered."""
        running = self._running
        # Nothing is asked, or not all of it.
        if running is None or running.response_complete or self.cycle.more_body:
            self.transport.close()  # behind what is written already, perhaps in this very turn
            return False
        self._stop_timer()
        self.cycle.keep_alive = False
        self._half_closed = HalfClosed(self.transport)
        if not running.response_started:
            self.transport.begin()  # type: ignore[attr-defined]
        elif (probe := running.scope["state"].get(PROBE)) is not None:
            probe()
        return True

    def data_received(self, data: bytes) -> None:
        self._moved = False
        super().data_received(data)
        # A header or a trailer without an end stays inside the parser, which calls nothing here.
        if not self._moved:
            self._head += len(data)
            if self._head > self.max_head:
                self._refuse()
        if not self._in_head:  # the time for the next piece of the body
            self._stop_timer()
            self._start_timer(BODY_TIMEOUT)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timer(HEAD_TIMEOUT)

    def on_headers_complete(self) -> None:
        if self._offers():
            return
        self._stop_timer()
        self._in_head, self._head, self._moved = False, 0, True
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.max_head:
            self._refuse()
        elif len(self.pipeline) >= PIPELINED:
            self.transport.close()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head, self._moved = 0, True
        if self.cycle is not None:  # None after a head that was refused
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offers():
            return
        self._stop_timer()
        self._in_head, self._head, self._moved = True, 0, True
        if self.cycle is not None:
            super().on_message_complete()
        # Reading may be paused after a large body. Then nobody would notice that the client leaves.
        self.flow.resume_reading()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        if cycle.scope["http_version"] == "1.0":
            cycle.send = OldClientAnswer(cycle).send
        super()._start_asgi_task(cycle, app)

    def stay(self, rest: bytes) -> bool:
        """Parse the head again without its offer, then `rest`. False if it offers nothing."""
        if not self._offers():
            return False
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
        self.parser = self._parser()
        self.parser.feed_data(b"\r\n".join([*head, b"", rest]))
        return True

    def _offers(self) -> bool:
        return self.parser.should_upgrade() and self._get_upgrade() is not None

    def _parser(self) -> StayingParser:
        """A parser, set up as uvicorn does."""
        parser = StayingParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def send_400_response(self, msg: str) -> None:
        self._answer(b"400 Bad Request", InvalidRequest(msg))

    def _refuse(self) -> None:
        error = HeadTooLarge(f"The request's head is larger than {self.max_head} bytes.")
        self._answer(b"431 Request Header Fields Too Large", error)

    def _answer(self, status: bytes, error: HeadraceError) -> None:
        if self.transport.is_closing():
            return
        running = self._running
        # Behind the head of an answer this would be taken for a part of that answer.
        if running is None or running.response_complete or not running.response_started:
            body, name = error.json(), self._id()
            log.info("refused", id=name, code=error.code, why=error.message)
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
                % (status, name.encode(), len(body), body)
            )
        self.transport.close()

    def _id(self) -> str:
        """The id of the request that is being answered, or else of the one that is being read."""
        running = self._running
        known = "" if running is None else running.scope["state"].get("id", "")
        if known and not running.response_complete:
            return str(known)
        return request_id(self.headers or ())

    def _slow(self) -> None:
        self._timer = None
        if self.flow.read_paused:  # the client is not slow: this process does not read
            self._start_timer(BODY_TIMEOUT)
        elif not self.transport.is_closing():
            self.transport.close()

    def _start_timer(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def protocol(max_head: int) -> type[LimitedProtocol]:
    # A class, as uvicorn makes an instance for each connection, and passes on no settings of ours.
    return type("Protocol", (LimitedProtocol,), {"max_head": max_head})
