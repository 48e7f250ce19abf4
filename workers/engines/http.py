"""What every engine behind HTTP shares: one client, its faults, and passing bytes through."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from workers.engines.base import EngineFault, Sink
from workers.engines.sse import Events

ERROR_LIMIT = 64 * 1024
"""Bytes of an engine's error body that are read."""
_LARGE = 2**20
"""Bytes of a body that aiohttp wants as a file: it then writes it in pieces, between which other
jobs have their turn."""


class Upstream:
    """An HTTP client to one engine. Every fault of the transport becomes an EngineFault."""

    def __init__(self, name: str, url: str, api_key: str = "") -> None:
        self.name = name
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        # No time-out of its own: the lease and the deadlines decide how long an engine may take.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            headers=self._headers,
            auto_decompress=False,
            read_bufsize=2**20,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "open() comes first"
        headers = {"Content-Type": content_type} if content_type else {}
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE else body
        try:
            async with self._session.request(
                method, self.url + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                yield response
        except aiohttp.ClientConnectorError as fault:
            raise EngineFault(f"{self.name} cannot be reached: {fault}", away=True) from None
        except (aiohttp.ClientError, OSError) as fault:
            why = f"{self.name} broke the connection: {type(fault).__name__}"
            raise EngineFault(why, away=True) from None

    async def json(self, path: str, timeout: float = 5.0) -> Any:
        """GET a JSON page. Raises EngineFault, also for any status but 200."""
        try:
            async with asyncio.timeout(timeout), self.call("GET", path) as response:
                if response.status != 200:
                    why = f"{self.name} answered {response.status} to {path}"
                    raise EngineFault(why, away=True)
                return orjson.loads(await response.read())
        except TimeoutError:
            why = f"{self.name} did not answer {path} within {timeout:.0f} s"
            raise EngineFault(why, away=True) from None
        except orjson.JSONDecodeError:
            why = f"{self.name} answered {path} with something that is not JSON"
            raise EngineFault(why, away=True) from None


async def read_error(response: aiohttp.ClientResponse) -> bytes:
    """The body of an error answer, up to a limit."""
    return await response.content.read(ERROR_LIMIT)


async def relay_events(response: aiohttp.ClientResponse, sink: Sink) -> Events:
    """Pass an event stream through as it comes; returns what the end of it tells."""
    events = Events()
    while chunk := await response.content.readany():
        if whole := events.feed(chunk):
            sink.data(whole)
        else:
            sink.touch()
    return events
