"""Connections for which there is no room, and clients that do not read, by real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingress.http import protocol as http_protocol
from ingress.http.connections import Connections
from ingress.http.protocol import protocol
from tests.unit import fakes
from tests.unit.ingress.http.served import served
from tests.unit.ingress.http.size_server import HEAD, Client, post

PIECE = bytes(2**20)


class Endless:
    """Answers without an end. `sent`: pieces."""

    def __init__(self) -> None:
        self.sent = 0
        self.gone = asyncio.Event()
        self.began = asyncio.Event()
        self.port = 0
        self.clients: list[Client] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        left = asyncio.create_task(_disconnected(receive))
        while not left.done():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.sent += 1
            await asyncio.sleep(0)
        self.gone.set()

    async def connect(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
async def endless() -> AsyncIterator[Endless]:
    """It has room for one connection."""
    made, kind = Endless(), protocol(HEAD, Connections(1))
    async with served(made, kind) as (made.port, _):
        yield made
        for client in made.clients:
            client.writer.transport.abort()


async def test_an_idle_connection_is_closed_for_a_new_one(endless: Endless) -> None:
    idle, new = await endless.connect(), await endless.connect()
    new.send(post(b"x"))
    assert await idle.ended() == b""
    await endless.began.wait()


async def test_where_none_is_idle_the_new_one_is_told(endless: Endless) -> None:
    busy = await endless.connect()
    busy.send(post(b"x"))
    await endless.began.wait()
    for _ in range(2 * http_protocol.MOST_TURNED_AWAY):
        new = await endless.connect()
        new.send(post(b"x"))
        status, headers, said = await new.answer()
        assert (status, said["error"]["code"]) == (429, "too_many_connections")
        assert headers["retry-after"] == "1"
        assert await new.ended() == b""


async def test_so_are_not_more_than_a_few_at_a_time(
    endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "MOST_TURNED_AWAY", 1)
    busy = await endless.connect()
    busy.send(post(b"x"))
    await endless.began.wait()
    told, closed = await endless.connect(), await endless.connect()
    assert await closed.ended() == b""
    told.send(post(b"x"))
    assert (await told.answer())[0] == 429


async def test_a_client_that_reads_nothing_is_left(
    endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "READ_TIMEOUT", 0.1)
    client = await endless.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(post(b"x"))
    async with asyncio.timeout(fakes.PATIENCE):
        await endless.gone.wait()


async def test_one_that_reads_slowly_is_not(
    endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "READ_TIMEOUT", 5.0)
    client = await endless.connect()
    client.send(post(b"x"))
    async with asyncio.timeout(fakes.PATIENCE):
        while endless.sent < 40:
            await client.reader.read(2**16)
            await asyncio.sleep(0.002)
    assert not endless.gone.is_set()
