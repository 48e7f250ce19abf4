"""The limits of a request's head, by real connections to uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.requests import Request
from uvicorn.server import ServerState

from ingress import limits
from ingress.limits import protocol, read_body
from tests.unit import fakes

HEAD = 4096


class Site:
    """A server that answers with the size of each body, once `open` is set."""

    def __init__(self) -> None:
        self.port = 0
        self.gone = asyncio.Event()
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"][limits.GONE] = self.gone.set
        size = len(await read_body(Request(scope, receive), 2**30))
        self.began.set()
        await self.open.wait()
        answer = orjson.dumps({"size": size})
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
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


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """(status, headers, JSON) of one response."""
        async with asyncio.timeout(fakes.PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, orjson.loads(body)

    async def ended(self) -> bytes:
        """What comes until the server closes the connection."""
        async with asyncio.timeout(fakes.PATIENCE):
            return await self.reader.read()


@pytest.fixture
async def connect(site: Site) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    made: list[Client] = []

    async def connect() -> Client:
        made.append(Client(*await asyncio.open_connection("127.0.0.1", site.port)))
        return made[-1]

    yield connect
    for client in made:
        client.writer.close()


Connect = Callable[[], Awaitable[Client]]


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST / HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_requests_follow_each_other_on_one_connection(connect: Connect) -> None:
    client = await connect()
    for size in (0, 5, 3 * HEAD, 100 * HEAD, 1):
        client.send(post(bytes(size)))
        assert (await client.answer())[0::2] == (200, {"size": size})


async def test_a_large_body_does_not_count_as_a_head(connect: Connect) -> None:
    client = await connect()
    client.send(post(bytes(50 * HEAD)) + post(bytes(2 * HEAD)))
    assert (await client.answer())[2] == {"size": 50 * HEAD}
    assert (await client.answer())[2] == {"size": 2 * HEAD}


@pytest.mark.parametrize(
    "head",
    [
        post(b"", f"x-long: {'y' * HEAD}"),
        post(b"", *(f"x-{i}: y" for i in range(HEAD // 2))),
        post(b"").replace(b"/", b"/" + b"y" * HEAD, 1),
    ],
    ids=["long", "many", "path"],
)
async def test_a_head_that_is_too_large_is_refused(connect: Connect, head: bytes) -> None:
    client = await connect()
    client.send(head)
    status, headers, answer = await client.answer()
    assert (status, answer["error"]["code"]) == (431, "headers_too_large")
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    assert await client.ended() == b""


async def test_a_head_that_never_ends_is_refused(connect: Connect) -> None:
    client = await connect()
    client.send(b"POST / HTTP/1.1\r\nx-endless: ")
    answer = asyncio.ensure_future(client.answer())
    for _ in range(8):
        client.send(b"y" * (HEAD // 4))
        await client.writer.drain()
    assert (await answer)[0] == 431


async def test_the_head_of_a_later_request_is_limited_too(connect: Connect) -> None:
    client = await connect()
    client.send(post(b"x"))
    await client.answer()
    client.send(b"GET / HTTP/1.1\r\nx-endless: " + b"y" * 2 * HEAD)
    assert (await client.answer())[0] == 431


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so_in_json(connect: Connect, data: bytes) -> None:
    client = await connect()
    client.send(data)
    status, headers, answer = await client.answer()
    assert (status, headers["content-type"]) == (400, "application/json")
    assert answer["error"]["type"] == "invalid_request_error"
    assert await client.ended() == b""


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_TIMEOUT", 0.15)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nx: "])
async def test_a_head_has_only_so_much_time(connect: Connect, sent: bytes) -> None:
    client = await connect()
    client.send(sent)
    assert await client.ended() == b""


@pytest.mark.usefixtures("_hasty")
async def test_so_has_the_head_of_a_later_request(connect: Connect) -> None:
    client = await connect()
    client.send(post(b"x"))
    await client.answer()
    client.send(b"GET / HTTP/1.1\r\nx: ")
    assert await client.ended() == b""


@pytest.mark.usefixtures("_hasty")
async def test_an_answer_may_take_its_time(connect: Connect, site: Site) -> None:
    site.open.clear()
    client = await connect()
    client.send(post(b"x"))
    await site.began.wait()
    asyncio.get_running_loop().call_later(1.5 * limits.HEAD_TIMEOUT, site.open.set)
    assert (await client.answer())[0] == 200


async def test_a_client_that_leaves_is_noticed(connect: Connect, site: Site) -> None:
    site.open.clear()
    client = await connect()
    client.send(post(b"x"))
    await site.began.wait()
    client.writer.close()
    async with asyncio.timeout(fakes.PATIENCE):
        await site.gone.wait()
    site.open.set()
    assert site.gone.is_set()


async def test_a_client_that_leaves_after_its_answer_is_not(connect: Connect, site: Site) -> None:
    client = await connect()
    client.send(post(b"x"))
    await client.answer()
    client.writer.close()
    await client.writer.wait_closed()
    other = await connect()
    other.send(post(b"y"))
    await other.answer()
    assert not site.gone.is_set()
