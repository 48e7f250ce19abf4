"""A small HTTP/1.1 client for engines: one connection carries one request at a time.

Every token passes through it, and a general client would cost more than the rest of the worker
(measured, two cores, a reply of 32 chunks: aiohttp 0.45 ms of CPU, this 0.12 ms). httptools parses,
as for uvicorn. Engines use no redirects, cookies and proxies, so this has none. It asks for no
compression, but proxies before engines compress all the same.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httptools

HIGH_WATER = 2**20
"""Unread bytes above which the connection stops reading from its socket."""
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
_ANY_HEAD = 32 + zlib.MAX_WBITS
"""Has zlib find out which of these it is."""
MOST = 96 * 2**20
"""Most bytes of one answer, unpacked, so that an endless one cannot take all memory: ten pictures
in base64 fit in."""
HEAD = 64 * 1024
"""Most bytes of a head, and of what stands between two pieces of a body."""
HEADERS = 128
HEAD_TIME = 10.0
"""Seconds from the first byte of a head to its last. The first may take as long as it likes."""
_UNPACKED = 16 * 2**20
"""Most bytes that one read from the socket unpacks to: a few bytes may stand for a thousand times
as many."""


Taker = Callable[[bytes], None]


class ConnectionBroken(OSError):
    """The connection could not be made, ended early, or carried something that is not HTTP."""


Request = tuple[bytes, bytes]
"""The bytes of a request: all of them, or its head and a large body."""


class Response:
    """An answer whose head has come; `read`, `readany` and `deliver` give its body."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._fault: ConnectionBroken | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Taker | None = None
        self._refused: Exception | None = None
        self.connection: Connection | None = None

    def header(self, name: str, default: str = "") -> str:
        """A header by its lower-case name."""
        return self.headers.get(name, default)

    @property
    def succeeded(self) -> bool:
        """Some frameworks answer a POST with 201 unless they are told otherwise."""
        return 200 <= self.status < 300

    async def readany(self) -> bytes:
        """The bytes since the last call; waits for some; b"" at the end of the body."""
        while not self._pieces:
            if self.complete:
                return b""
            if self._fault is not None:
                raise self._fault
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._taken()

    def _taken(self) -> bytes:
        """All pieces that are here."""
        found = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._held > HIGH_WATER and self.connection is not None:
            self.connection.resume()
        self._held = 0
        return found

    async def deliver(self, taker: Taker) -> None:
        """Give the body to `taker`, to its end: what each read of the socket brings at once, which
        saves a turn of the caller's task for each. Raises ConnectionBroken, and what it raises."""
        while self.connection is None:  # it only reads another one, or is here already
            if not (piece := await self.readany()):
                return
            taker(piece)
        while True:
            if self._pieces:
                taker(self._taken())
            elif self.complete:
                return
            elif self._fault is not None:
                raise self._fault
            else:
                self._taker, self._waiter = taker, asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._taker = None
                if self._refused is not None:
                    raise self._refused

    def hand_over(self) -> None:
        """One read of the socket is over."""
        if self._taker is not None and self._pieces:
            try:
                self._taker(self._taken())
            except Exception as fault:  # noqa: BLE001 - it is that of who waits in `deliver`
                self._taker, self._refused = None, fault
                self.wake()

    async def beginning(self) -> bytes:
        """The first bytes of the body, which are still to be read."""
        if found := await self.readany():
            self._pieces.appendleft(found)
            self._held += len(found)
        return found

    async def read(self, limit: int = -1) -> bytes:
        """The whole body, or its first `limit` bytes. Raises ConnectionBroken."""
        if limit < 0:
            return b"".join([piece async for piece in self.pieces()])
        found = b""
        while len(found) < limit and (piece := await self.readany()):
            found += piece
        return found[:limit]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces of a body that the caller keeps. Raises ConnectionBroken if it is endless."""
        size = 0
        while piece := await self.readany():
            size += len(piece)
            if size > MOST:
                raise ConnectionBroken(f"an answer of more than {MOST} bytes")
            yield piece

    def add(self, piece: bytes) -> bool:
        """Add what one read of the socket brought; return False if too much waits to be read."""
        self._pieces.append(piece)
        self._held += len(piece)
        if self._taker is None:
            self.wake()
        return self._held <= HIGH_WATER

    def end(self, fault: ConnectionBroken | None = None) -> None:
        if fault is None:
            self.complete = True
        else:
            self._fault = fault
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """One connection. The parser calls the methods named `on_...`."""

    def __init__(self) -> None:
        self.used = False
        self.alive = True
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._response: Response | None = None
        self._head: asyncio.Future[Response] | None = None
        self._sized = False
        self._heard = False
        self._bare = 0  # bytes since the last one of a body, or since the head
        self._lines = 0
        self._late: asyncio.TimerHandle | None = None
        self._packed: Any = None
        """Unpacks the body, if it is packed."""
        self._came = list[bytes]()
        """Pieces of the body, of one read of the socket. Each token may be one."""

    @property
    def free(self) -> bool:
        return self.alive and self._response is None

    @property
    def untouched(self) -> bool:
        """Whether a kept connection was stale: it ended before a byte of the answer came."""
        return self.used and not self.alive and not self._heard

    async def ask(self, request: Request) -> Response:
        """Send a request and return once the answer's head has come. Raises ConnectionBroken."""
        if self._transport is None or not self.alive:
            raise ConnectionBroken("the connection is closed")
        self._parser = httptools.HttpResponseParser(self)
        self._response = Response()
        self._response.connection = self
        self._head = asyncio.get_running_loop().create_future()
        self._sized = self._heard = False
        self._came.clear()
        self._bare = self._lines = 0
        self._packed = None
        start, rest = request
        self._transport.write(start)
        if rest:
            self._transport.write(rest)
        return await self._head

    def abort(self) -> None:
        """Close at once, so that the engine sees that nobody listens."""
        self.alive = False
        self._in_time()
        if self._transport is not None:
            self._transport.abort()  # `close` would first send what is still to be written

    def resume(self) -> None:
        if self._transport is not None and self.alive:
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._in_time()
        response = self._response
        if response is None or response.complete:
            return
        if response.status and not self._sized and exc is None:
            response.end()  # a body without a length ends with its connection
        else:
            self._break(ConnectionBroken("the connection ended in the middle of an answer"))

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._response is None:  # the engine talks although nothing was asked
            self.abort()
            return
        self._bare += len(data)
        response = self._response
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            own = fault.__context__  # of the methods here, which the parser calls
            broken = own if isinstance(own, ConnectionBroken) else None
            self._put()
            self._hang_up(broken or ConnectionBroken(f"not HTTP: {fault}"))
        else:
            self._put()
            self._check_head()
        response.hand_over()

    def _put(self) -> None:
        """Give what has come of the body to its reader."""
        if (came := self._came) and self._response is not None and self._transport is not None:
            piece = came[0] if len(came) == 1 else b"".join(came)
            came.clear()
            if not self._response.add(piece):
                self._transport.pause_reading()

    def _check_head(self) -> None:
        """What came was no part of a body if `_bare` still counts it. Most heads come whole, and
        need no timer."""
        if self._bare > HEAD:
            self._hang_up(ConnectionBroken(f"a head of more than {HEAD} bytes"))
        elif self._response is None or self._response.status or not self._bare:
            self._in_time()
        elif self._late is None:
            late = ConnectionBroken(f"a head that took more than {HEAD_TIME:.0f} s")
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(HEAD_TIME, self._hang_up, late)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _hang_up(self, fault: ConnectionBroken) -> None:
        self._break(fault)
        self.abort()

    def _count_line(self) -> None:
        self._lines += 1
        if self._lines > HEADERS:
            raise ConnectionBroken(f"a head of more than {HEADERS} lines")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_line()
        if self._response is None or self._response.status:
            return  # behind the body: nobody reads it
        key = name.decode("latin-1").lower()
        self._response.headers[key] = value.decode("latin-1")
        self._sized = self._sized or key in ("content-length", "transfer-encoding")
        if key == "content-encoding" and self._response.headers[key].strip().lower() in _PACKED:
            self._packed = zlib.decompressobj(_ANY_HEAD)

    def on_headers_complete(self) -> None:
        assert self._response is not None
        assert self._head is not None
        status = self._parser.get_status_code()
        self._bare = 0
        # A head of 1xx only announces the answer's own.
        if status < 200:
            self._count_line()
        elif not self._head.done():
            self._response.status = status
            self._head.set_result(self._response)

    def on_body(self, body: bytes) -> None:
        self._bare = 0
        if self._packed is not None:
            body = self._packed.decompress(body, _UNPACKED)
            if self._packed.unconsumed_tail:
                raise ConnectionBroken(f"a piece that unpacks to more than {_UNPACKED} bytes")
        if body:  # nothing would be the end
            self._came.append(body)

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or not response.status:  # 1xx: the answer is yet to come
            return
        self._put()
        self.used = True
        if not self._parser.should_keep_alive():
            self.abort()
        self._response = None
        self._bare = 0
        response.end()

    def _break(self, fault: ConnectionBroken) -> None:
        self._in_time()
        response, self._response = self._response, None
        if self._head is not None and not self._head.done():
            self._head.set_exception(fault)
        elif response is not None:
            response.end(fault)
