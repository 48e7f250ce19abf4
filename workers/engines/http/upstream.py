"""The HTTP client of an engine: it keeps connections and turns their faults into EngineFault."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson

from schemas.api.piecewise import LARGE
from schemas.api.piecewise_write import joined
from schemas.traces import CURRENT
from workers.engines.base import EngineFault, Sink
from workers.engines.http import tls
from workers.engines.http.connection import Connection, ConnectionBroken, Request, Response

CONNECT_TIMEOUT = 5.0
_IDLE_LIMIT = 64
"""Most idle connections that are kept."""
ERROR_LIMIT = 64 * 1024
"""Most bytes that are read from the body of an error."""

_CONTROL = re.compile(r"[\x00-\x20]")

# What an operator may do.
_BROKE = "See its own log; and is its url right, with http:// or https://?"
_SLOW = "It hangs, or has more to do than it can: see its own log"
_KEY = "It wants a key: set the engine's api_key"
_URL = "Is its url right, and its kind?"


class Upstream:
    """An HTTP client to one engine. `url`: ``http(s)://host:port``, perhaps with a path. Every
    fault of the transport becomes an EngineFault."""

    def __init__(self, name: str, url: str, api_key: str = "") -> None:
        self.name = name
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._url = url.rpartition("@")[2] if "@" in parts.netloc else url
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        key = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        takes = "Accept: */*\r\nAccept-Encoding: identity\r\n"
        self._headers = f"Host: {parts.netloc.rpartition('@')[2]}\r\n{takes}{key}"
        self._idle: list[Connection] = []

    async def close(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> AsyncIterator[Response]:
        """Send one request; close its connection if the block ends before the answer does. There
        is no time limit: the lease and the deadlines decide how long an engine may take."""
        response = None
        try:
            response = await self._send(self._request(method, path, body, content_type))
            yield response
        except ConnectionBroken as fault:
            why = f"{self.name} broke the connection: {fault}"
            raise EngineFault(why, away=True, hint=_BROKE) from None
        except OSError as fault:
            raise self._unreachable(fault) from None
        finally:
            if response is not None:
                self._give_back(response)

    async def ask(
        self,
        method: str,
        path: str,
        timeout: float | None,
        body: bytes | None = None,
        kind: str = "",
    ) -> tuple[int, bytes]:
        """The status and body of an answer; None for `timeout`: it may take as long as it likes.
        Raises EngineFault only if none comes."""
        try:
            async with (
                asyncio.timeout(timeout),
                self.call(method, path, body, kind) as response,
            ):
                return response.status, await response.read()
        except TimeoutError:
            why = f"{self.name} did not answer {path} within {timeout:.0f} s"
            raise EngineFault(why, away=True, hint=_SLOW) from None

    async def head_and_page(self, path: str, timeout: float, limit: int) -> tuple[int, str, bytes]:
        """The status, the header `Server` and the first bytes of a page. Raises EngineFault."""
        try:
            async with asyncio.timeout(timeout), self.call("GET", path) as response:
                server = response.header("server")
                return response.status, server, await response.read(limit)
        except TimeoutError:
            raise EngineFault(f"{self.name} did not answer {path}", away=True) from None

    async def post(self, path: str, asked: Any, timeout: float) -> tuple[int, bytes]:
        """Ask with a JSON body."""
        return await self.ask("POST", path, timeout, orjson.dumps(asked), "application/json")

    async def json(self, path: str, timeout: float = 5.0) -> Any:
        """GET a JSON page. Raises EngineFault for any status but 200, too."""
        status, page = await self.ask("GET", path, timeout)
        if status != 200:
            hint = _KEY if status in (401, 403) else _URL
            raise EngineFault(f"{self.name} answered {status} to {path}", away=True, hint=hint)
        try:
            return orjson.loads(page)
        except orjson.JSONDecodeError:
            why = f"{self.name} answered {path} with something that is not JSON"
            raise EngineFault(why, away=True) from None

    def _unreachable(self, fault: OSError) -> EngineFault:
        why, hint = str(fault), f"Start it, or correct its url, which is {self._url}"
        if isinstance(fault, ssl.SSLError):
            why, hint = tls.reason(fault, f"{self._host}:{self._port}")
        return EngineFault(f"{self.name} cannot be reached: {why}", away=True, hint=hint)

    def _request(self, method: str, path: str, body: bytes | None, content_type: str) -> Request:
        # A line break would begin a header, or a request, of a client's own.
        if _CONTROL.search(path) or _CONTROL.search(content_type.replace(" ", "")):
            raise ConnectionBroken("a path or content type with a control character")
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{self._headers}"
        if (trace := CURRENT.get()) is not None:
            head += trace.lines()
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        start = head.encode("latin-1") + b"\r\n"
        body = body or b""
        # A large one is not copied only to have both together.
        return (start, body) if len(body) > LARGE else (start + body, b"")

    async def _send(self, request: Request) -> Response:
        """Send on a kept connection; if that is stale, send again on a new one."""
        while self._idle:
            kept = self._idle.pop()
            if not kept.free:
                continue
            try:
                return await _asked(kept, request)
            except ConnectionBroken:
                if not kept.untouched:  # the engine may have begun the job: it is not sent twice
                    raise
                break  # the other kept ones may be as stale
        return await _asked(await self._connect(), request)

    async def _connect(self) -> Connection:
        connecting = asyncio.get_running_loop().create_connection(
            Connection, self._host, self._port, ssl=self._tls
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return (await connecting)[1]
        except TimeoutError:
            raise ConnectionRefusedError(f"no connection in {CONNECT_TIMEOUT:.0f} s") from None

    def _give_back(self, response: Response) -> None:
        """Keep the connection if its answer is complete, else close it."""
        connection, response.connection = response.connection, None
        if connection is None:
            return
        if response.complete and connection.free and len(self._idle) < _IDLE_LIMIT:
            connection.resume()  # it may have paused before a body that was not read to its end
            self._idle.append(connection)
        else:
            connection.abort()


async def _asked(connection: Connection, request: Request) -> Response:
    try:
        return await connection.ask(request)
    except asyncio.CancelledError:
        connection.abort()
        raise


async def read_error(response: Response) -> bytes:
    """The body of an error answer, up to a limit."""
    return await response.read(ERROR_LIMIT)


async def read_whole(response: Response, sink: Sink) -> bytes:
    """The body of an answer; each of its pieces counts as progress."""
    parts = []
    async for chunk in response.pieces():
        parts.append(chunk)
        sink.touch()
    return await joined(parts)
