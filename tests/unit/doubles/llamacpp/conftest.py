"""A mock of llama-server in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.doubles.llamacpp.server import Server
from tests.doubles.llamacpp.slots import Settings

Start = Callable[[Settings], Awaitable[tuple[Server, str]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a mock; returns it and its URL."""
    listening = []

    async def begin(settings: Settings) -> tuple[Server, str]:
        mock = Server(settings)
        server, url = await mock.listen()
        listening.append((mock, server))
        return mock, url

    yield begin
    for mock, server in listening:
        server.close()
        for connection in list(mock.open):
            connection.transport.abort()
        await server.wait_closed()
