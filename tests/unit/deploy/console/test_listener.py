"""What the console's server makes of connections, by real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from deploy.console import listener
from deploy.console.listener import PageProtocol
from ingress.http import protocol as protocols
from ingress.http.connections import Connections
from tests.unit import fakes
from tests.unit.ingress.http.served import HEAD, served

ASKED = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Answers, and gives back what comes by a WebSocket."""
    if scope["type"] == "http":
        await PlainTextResponse("page")(scope, receive, send)
        return
    socket = WebSocket(scope, receive, send)
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


class Browser:
    def __init__(self, port: int, places: Connections) -> None:
        self.port = port
        self._places = places
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader

    async def until(self, connections: int) -> None:
        while len(self._places._places) != connections:
            await asyncio.sleep(0.001)

    async def page(self) -> asyncio.StreamReader:
        """A connection on which a page came. It stays."""
        reader = await self.connect()
        self.writers[-1].write(ASKED)
        assert await reader.readuntil(b"page")
        return reader


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """The server has room for two connections."""
    kind = protocols.protocol(HEAD, Connections(2, 2), PageProtocol)
    async with served(_app, kind, "websockets-sansio") as (port, _):
        made = Browser(port, kind.places)
        yield made
        for writer in made.writers:
            writer.transport.abort()


async def test_a_websocket_keeps_its_place_and_an_idle_connection_does_not(
    browser: Browser,
) -> None:
    url = f"http://127.0.0.1:{browser.port}/"
    async with asyncio.timeout(fakes.PATIENCE), aiohttp.ClientSession() as http:
        async with http.ws_connect(url) as socket:
            idle = await browser.page()
            await browser.page()
            assert await idle.read() == b"", "closed for the other one"
            await socket.send_str("here")
            assert await socket.receive_str() == "here"
        await browser.until(1)
        first = browser.writers[-1]
        await browser.page()
        assert not first.transport.is_closing(), "the place of the socket was free"
        await browser.until(2)


async def test_who_says_nothing_is_closed(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "HEAD_TIMEOUT", 0.01)
    async with asyncio.timeout(fakes.PATIENCE):
        assert await (await browser.connect()).read() == b""


@pytest.mark.parametrize(("proxied", "most"), [(True, listener.MOST), (False, listener.MOST // 2)])
def test_one_address_has_half_unless_it_may_be_a_proxy(proxied: bool, most: int) -> None:
    kind = listener.made(proxied)
    assert issubclass(kind, PageProtocol)
    assert kind.places._of_one == most
