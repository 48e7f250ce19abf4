"""What every engine behind HTTP shares: one client, its faults, and reading what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from workers.engines.base import EngineFault, Sink
from workers.engines.http.connection import LinkBroken, Links, Response

ERROR_LIMIT = 64 * 1024
"""Bytes of an engine's error body that are read."""


class Upstream:
    """An HTTP client to one engine. Every fault of the transport becomes an EngineFault."""

    def __init__(self, name: str, url: str, api_key: str = "") -> None:
        self.name = name
        # No time-out of its own: the lease and the deadlines decide how long an engine may take.
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url.rstrip("/")
        self._links = Links(self.url, headers)

    async def close(self) -> None:
        self._links.close()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> AsyncIterator[Response]:
        """One request; its connection is closed if the block ends before the answer does."""
        response = None
        try:
            response = await self._links.ask(method, path, body, content_type)
            yield response
        except LinkBroken as fault:
            why = f"{self.name} broke the connection: {fault}"
            raise EngineFault(why, away=True) from None
        except OSError as fault:
            raise EngineFault(f"{self.name} cannot be reached: {fault}", away=True) from None
        finally:
            if response is not None:
                self._links.give_back(response)

    async def ask(
        self, method: str, path: str, timeout: float, body: bytes | None = None, kind: str = ""
    ) -> tuple[int, bytes]:
        """The status and the body of a small answer. Raises EngineFault only if there is none."""
        try:
            async with (
                asyncio.timeout(timeout),
                self.call(method, path, body, kind) as response,
            ):
                return response.status, await response.read()
        except TimeoutError:
            why = f"{self.name} did not answer {path} within {timeout:.0f} s"
            raise EngineFault(why, away=True) from None

    async def post(self, path: str, asked: Any, timeout: float) -> tuple[int, bytes]:
        """Ask with a JSON body."""
        return await self.ask("POST", path, timeout, orjson.dumps(asked), "application/json")

    async def json(self, path: str, timeout: float = 5.0) -> Any:
        """GET a JSON page. Raises EngineFault, also for any status but 200."""
        status, page = await self.ask("GET", path, timeout)
        if status != 200:
            raise EngineFault(f"{self.name} answered {status} to {path}", away=True)
        try:
            return orjson.loads(page)
        except orjson.JSONDecodeError:
            why = f"{self.name} answered {path} with something that is not JSON"
            raise EngineFault(why, away=True) from None


async def read_error(response: Response) -> bytes:
    """The body of an error answer, up to a limit."""
    return await response.read(ERROR_LIMIT)


async def read_whole(response: Response, sink: Sink) -> bytes:
    """The body of an answer; each piece of it is progress."""
    parts = []
    async for chunk in response.pieces():
        parts.append(chunk)
        sink.touch()
    return b"".join(parts)
