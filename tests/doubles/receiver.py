"""A receiver of webhooks: real HTTP, and answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Call:
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return orjson.loads(self.body)["data"]


@dataclass
class Receiver:
    """`statuses`: of the next answers; 204 once they are used up."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(Call(headers, await request.read()))
        self.news.set()
        status = self.statuses.pop(0) if self.statuses else 204
        more = {"Location": f"{self.url}/elsewhere"} if status == 302 else {}
        return web.Response(status=status, headers=more)

    async def got(self, count: int) -> list[Call]:
        """Wait until it was called so often."""
        async with asyncio.timeout(PATIENCE):
            while len(self.calls) < count:
                self.news.clear()
                await self.news.wait()
        return self.calls


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.take)
    async with TestServer(app) as server:
        made.url = f"{str(server.make_url('')).rstrip('/')}/hooks/T0PSECRET"
        yield made
