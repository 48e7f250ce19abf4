from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from uvicorn.server import ServerState

from ingress.http.protocol import protocol
from tests.unit.ingress.http.size_server import HEAD, Client, SizeServer


@pytest.fixture
async def server() -> AsyncIterator[SizeServer]:
    made = SizeServer()
    config = uvicorn.Config(
        made, http=protocol(HEAD), ws="none", lifespan="off", log_config=None, access_log=False
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(HEAD)(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    made.port = server.sockets[0].getsockname()[1]
    yield made
    for connection in list(state.connections):
        connection.transport.abort()
    server.close()
    await server.wait_closed()


@pytest.fixture
async def connect(server: SizeServer) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    made: list[Client] = []

    async def connect() -> Client:
        made.append(Client(*await asyncio.open_connection("127.0.0.1", server.port)))
        return made[-1]

    yield connect
    for client in made:
        client.writer.close()
