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
from collections.abc import AsyncIterator
from typing import Any, cast

import httptools

HIGH_WATER = 2**20
"""Unread bytes above which the connection stops reading from its socket."""
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
_ANY_HEAD = 32 + zlib.MAX_WBITS
"""Has zlib find out which of these it is."""
MOST = 2**29
"""Most bytes of one answer, so that an endless one cannot take all memory."""


class ConnectionBroken(OSError):
    """The connection could not be made, ended early, or carried something that is not HTTP."""


class Response:
    """An answer whose head has come; `read` and `readany` give its body."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._fault: ConnectionBroken | None = None
        self._waiter: asyncio.Future[None] | None = None
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
        found = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._held > HIGH_WATER and self.connection is not None:
            self.connection.resume()
        self._held = 0
        return found

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
        """Add a piece; return False if too much waits to be read."""
        self._pieces.append(piece)
        self._held += len(piece)
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
        self._packed: Any = None
        """Unpacks the body, if it is packed."""

    @property
    def free(self) -> bool:
        return self.alive and self._response is None

    @property
    def untouched(self) -> bool:
        """Whether a kept connection was stale: it ended before a byte of the answer came."""
        return self.used and not self.alive and not self._heard

    async def ask(self, request: bytes) -> Response:
        """Send a request and return once the answer's head has come. Raises ConnectionBroken."""
        if self._transport is None or not self.alive:
            raise ConnectionBroken("the connection is closed")
        self._parser = httptools.HttpResponseParser(self)
        self._response = Response()
        self._response.connection = self
        self._head = asyncio.get_running_loop().create_future()
        self._sized = self._heard = False
        self._packed = None
        self._transport.write(request)
        return await self._head

    def abort(self) -> None:
        """Close at once, so that the engine sees that nobody listens."""
        self.alive = False
        if self._transport is not None:
            self._transport.abort()  # `close` would first send what is still to be written

    def resume(self) -> None:
        if self._transport is not None and self.alive:
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
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
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._break(ConnectionBroken(f"not HTTP: {fault}"))
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._response is not None
        key = name.decode("latin-1").lower()
        self._response.headers[key] = value.decode("latin-1")
        self._sized = self._sized or key in ("content-length", "transfer-encoding")
        if key == "content-encoding" and self._response.headers[key].strip().lower() in _PACKED:
            self._packed = zlib.decompressobj(_ANY_HEAD)

    def on_headers_complete(self) -> None:
        assert self._response is not None
        assert self._head is not None
        status = self._parser.get_status_code()
        # A head of 1xx only announces the answer's own.
        if status >= 200 and not self._head.done():
            self._response.status = status
            self._head.set_result(self._response)

    def on_body(self, body: bytes) -> None:
        assert self._response is not None
        assert self._transport is not None
        if self._packed is not None:
            body = self._packed.decompress(body)
        if body and not self._response.add(body):  # nothing would be the end
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or not response.status:  # 1xx: the answer is yet to come
            return
        self.used = True
        if not self._parser.should_keep_alive():
            self.abort()
        self._response = None
        response.end()

    def _break(self, fault: ConnectionBroken) -> None:
        response, self._response = self._response, None
        if self._head is not None and not self._head.done():
            self._head.set_exception(fault)
        elif response is not None:
            response.end(fault)
