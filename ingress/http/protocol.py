"""uvicorn's HTTP protocol, with limits on the head, the time and the requests of a connection."""

from __future__ import annotations

import asyncio
from array import array
from http import HTTPStatus
from itertools import chain
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingress.http.body import CYCLE, request_id
from ingress.http.connections import Connections, Idle
from ingress.http.half_closed import HalfClosed
from ingress.http.old_client import OldClientAnswer
from schemas import metrics
from schemas.errors import (
    HeadraceError,
    HeadTooLarge,
    InvalidRequest,
    RequestTimeout,
    TooManyConnections,
)

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
"""Seconds that a request's body may take, or pause, and one more for each `SLOWEST` bytes of it."""
SLOWEST = 4096
"""Bytes in a second that a client has to send at least."""
READ_TIMEOUT = 60.0
"""Seconds in which a client has to read something of its answer."""
TURNED_AWAY = 1.0
"""Seconds that a client has to send its request, if there is no room for its connection: only then
it reads why."""
MOST_TURNED_AWAY = 64
"""Connections that are told so at a time. More are closed at once."""
PIPELINED = 64
"""Requests that a client may send on one connection ahead of their answers."""
AHEAD = 64 * 1024
"""Bytes of their bodies that are taken of requests that wait for the answer to an earlier one."""
MANY = 2**31
"""Connections, where there is no limit."""
_GRAIN = 0.001
_BEGINNING = b"H"
"""The first byte of every status line."""


class JoiningTransport:
    """A transport that joins all writes of one turn of the event loop into one system call. Uvicorn
    writes head and body apart, which takes 15 % of the CPU of a short answer (measured)."""

    def __init__(self, inner: asyncio.Transport) -> None:
        self._inner = inner
        self._ready: list[bytes] = []
        self._begun = 0
        self.is_closing = inner.is_closing
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        if not self._ready:
            self._call_soon(self._flush)
        self._ready.append(data)

    def write_now(self, data: bytes) -> None:
        """Write what is all that there will be in this turn."""
        if self._ready or self._begun:
            self.write(data)
        elif not self._inner.is_closing():
            self._inner.write(data)

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
    places = Connections(MANY)
    turned_away = 0
    _no_room: TooManyConnections | None = None
    _idle: Idle
    _in_head, _heading, _moved = True, False, False
    _by = 0.0
    _reader: asyncio.TimerHandle | None = None
    _unread = _head = 0
    _running: Any = None
    _paused = False
    """Whether this process did not read at the last look."""
    _timer: asyncio.TimerHandle | None = None
    _half_closed: HalfClosed | None = None

    def connection_made(self, transport: Any) -> None:
        self.parser = self._parser()
        self._leave_place()
        super().connection_made(JoiningTransport(transport))  # type: ignore[arg-type]
        try:
            self._idle = self.places.opened(self, self.client[0] if self.client else "")
        except TooManyConnections as error:
            self._turn_away(error)
        else:
            self._start_timer(HEAD_TIMEOUT)

    def _turn_away(self, error: TooManyConnections) -> None:
        kind = type(self)
        metrics.TURNED_AWAY.inc()
        if kind.turned_away >= MOST_TURNED_AWAY:
            self.transport.abort()
            return
        kind.turned_away += 1
        self._no_room = error
        self._start_timer(TURNED_AWAY)

    def make_room(self) -> None:
        """Close an idle connection: another one needs the place."""
        self._leave_place()
        self._stop_timer()
        self.transport.close()

    def _leave_place(self) -> None:
        """It has no place, or none any more: where it says that it is idle, nobody reads it."""
        self._idle = {}

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.resume_writing()
        self.places.closed(self)
        self._leave_place()
        if self._no_room is not None:
            type(self).turned_away -= 1
            self._no_room = None
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
        if self._no_room is not None:
            self._answer(self._no_room)
            return
        self._moved = False
        super().data_received(data)
        # A header or a trailer without an end stays inside the parser, which calls nothing here.
        if not self._moved:
            self._head += len(data)
            if self._head > self.max_head:
                self._refuse()
        if self._heading:  # nearly all heads come whole, and need no timer
            self._start_timer(HEAD_TIMEOUT)
        elif not self._in_head:
            now = self.loop.time()
            self._by = min(self._by + len(data) / SLOWEST, now + BODY_TIMEOUT)
            self._start_timer(self._by - now)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._heading = True

    def on_headers_complete(self) -> None:
        if self._offers():
            return
        self._stop_timer()
        self._heading = False
        self._in_head, self._head, self._moved = False, 0, True
        self._by = self.loop.time() + BODY_TIMEOUT
        size = len(self.url) + sum(map(len, chain.from_iterable(self.headers)))
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
        # Reading may be paused after a large body. Then nobody would notice that the client leaves,
        # which is the lesser evil if much of what nobody has asked for yet would be kept.
        if not self.pipeline or sum(len(cycle.body) for cycle, _ in self.pipeline) < AHEAD:
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        self._idle.pop(self, None)
        if cycle.scope["http_version"] == "1.0":
            cycle.send = OldClientAnswer(cycle).send
        elif not cycle.waiting_for_100_continue:
            cycle.scope["state"][CYCLE] = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._running.scope["state"].pop(CYCLE, None)  # one leads to the other, and back
        super().on_response_complete()
        if self._running is None or self._running.response_complete:  # none was waiting
            self._idle[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._reader = self.loop.call_later(READ_TIMEOUT, self._still_unread)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _still_unread(self) -> None:
        """The client is slow if it has read nothing meanwhile: its answer would stay here."""
        if self.transport.get_write_buffer_size() >= self._unread:
            self.transport.abort()
        else:
            self.pause_writing()

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
        self._answer(InvalidRequest(msg))

    def _refuse(self) -> None:
        self._answer(HeadTooLarge(f"The request's head is larger than {self.max_head} bytes."))

    def _answer(self, error: HeadraceError) -> None:
        if self.transport.is_closing():
            return
        running = self._running
        # Behind the head of an answer this would be taken for a part of that answer.
        if running is None or running.response_complete or not running.response_started:
            body, name, status = error.json(), self._id(), HTTPStatus(error.status)
            log.info("refused", id=name, code=error.code, why=error.message)
            own = "".join(f"{name}: {value}\r\n" for name, value in error.headers().items())
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\nconnection: close\r\n%b"
                b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
                % (status, status.phrase.encode(), own.encode(), name.encode(), len(body), body)
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
        now = self.loop.time()
        if self.flow.read_paused or self._paused:
            # The client is not slow: this process does not read, or began to after the last look.
            self._paused = self.flow.read_paused
            self._by = now + BODY_TIMEOUT
            self._start_timer(BODY_TIMEOUT)
        elif not self._in_head and self._by - now > _GRAIN:
            self._start_timer(self._by - now)
        elif self._head or not self._in_head:
            self._answer(RequestTimeout("The request did not come in time. Send it again."))
        elif not self.transport.is_closing():
            self.transport.close()

    def _start_timer(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def protocol(
    max_head: int,
    places: Connections | None = None,
    kind: type[LimitedProtocol] = LimitedProtocol,
) -> type[LimitedProtocol]:
    # A class, as uvicorn makes an instance for each connection, and passes on no settings of ours.
    own = {"max_head": max_head, "places": places or Connections(MANY)}
    return type("Protocol", (kind,), own)
