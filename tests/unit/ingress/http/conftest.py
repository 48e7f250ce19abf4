from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.unit.ingress.http.served import served
from tests.unit.ingress.http.size_server import Client, SizeServer


@pytest.fixture
async def server() -> AsyncIterator[SizeServer]:
    made = SizeServer()
    async with served(made) as (made.port, _):
        yield made


@pytest.fixture
async def connect(server: SizeServer) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    made: list[Client] = []

    async def connect() -> Client:
        made.append(Client(*await asyncio.open_connection("127.0.0.1", server.port)))
        return made[-1]

    yield connect
    for client in made:
        client.writer.close()
