"""What every engine behind HTTP does with the faults of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.unit import fakes
from workers.engines.base import EngineFault
from workers.engines.http.upstream import ERROR_LIMIT, Upstream, read_error, read_whole

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Server:
    """Answers each request with `says`; then waits for the client to go, or closes (`cuts`)."""

    def __init__(self) -> None:
        self.says = answer(b"{}")
        self.cuts = False
        self.heads: list[bytes] = []
        self.left = asyncio.Event()
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []
        self._listening: asyncio.Server | None = None

    async def open(self) -> None:
        self._listening = await asyncio.start_server(self, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._listening is not None
        self._listening.close()
        for writer in self._writers:
            writer.transport.abort()
        await fakes.turns()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                writer.write(self.says)
                if self.cuts:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def upstream(server: Server) -> AsyncIterator[Upstream]:
    made = Upstream("box", server.url + "/", "s3cret")
    yield made
    await made.close()
    await fakes.turns()


class Heard:
    """A sink that hears of progress alone."""

    def __init__(self) -> None:
        self.touched = 0
        self.news = asyncio.Event()

    def start(self, status: int, content_type: str) -> None: ...

    def data(self, chunk: bytes) -> None: ...

    def touch(self) -> None:
        self.touched += 1
        self.news.set()

    async def settle(self) -> None: ...


async def test_a_page_is_asked_for_with_the_key(server: Server, upstream: Upstream) -> None:
    server.says = answer(b'{"a":1}')
    assert await upstream.json("/props") == {"a": 1}
    assert server.heads[0].startswith(b"GET /props HTTP/1.1\r\n")
    assert b"authorization: bearer s3cret" in server.heads[0].lower()


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (answer(b"busy", 503), "answered 503 to /x"),
        (answer(b"<html>"), "not JSON"),
        (answer(b"half")[:-2], "broke the connection"),
        (b"rubbish\r\n\r\n", "broke the connection"),
    ],
)
async def test_a_page_that_is_none_is_a_fault_of_the_engine(
    server: Server, upstream: Upstream, says: bytes, why: str
) -> None:
    server.says, server.cuts = says, True
    with pytest.raises(EngineFault, match=why) as caught:
        await upstream.json("/x")
    assert caught.value.away
    assert caught.value.message.startswith("box ")


async def test_a_page_that_does_not_come_is_not_waited_for(
    server: Server, upstream: Upstream
) -> None:
    server.says = b""
    limit = 0.02
    while not server.heads:  # on a busy machine the time may be up before the question is there
        with pytest.raises(EngineFault, match="did not answer /x"):
            await upstream.json("/x", timeout=limit)
        limit *= 2
        assert limit < fakes.PATIENCE
    async with asyncio.timeout(fakes.PATIENCE):
        await server.left.wait()
    assert server.left.is_set()


async def test_an_engine_that_is_not_there_is_away(unused_tcp_port: int) -> None:
    upstream = Upstream("box", f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(EngineFault, match=r"cannot be reached|broke the connection") as caught:
        await upstream.json("/x")
    await upstream.close()
    assert caught.value.away


async def test_an_answer_is_read_whole_and_each_piece_is_progress(
    server: Server, upstream: Upstream
) -> None:
    server.says = SSE + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + b"0\r\n\r\n"
    heard = Heard()
    async with upstream.call("POST", "/v1", b"{}", "application/json") as response:
        assert await read_whole(response, heard) == b"data: 1\n\ndata: 2\n\n"
    assert heard.touched


@pytest.mark.parametrize("sent", [b"", chunk(b"data: 1\n\ndata: 2")])
async def test_one_that_is_cut_is_a_fault(server: Server, upstream: Upstream, sent: bytes) -> None:
    server.says, server.cuts = SSE + sent, True
    with pytest.raises(EngineFault, match="broke the connection") as caught:
        async with upstream.call("POST", "/v1", b"{}", "application/json") as response:
            await read_whole(response, Heard())
    assert caught.value.away


async def test_cancelled_it_closes_the_connection(server: Server, upstream: Upstream) -> None:
    server.says = SSE + chunk(b"data: 1\n\n")
    heard = Heard()

    async def read() -> None:
        async with upstream.call("POST", "/v1", b"{}", "application/json") as response:
            await read_whole(response, heard)

    reading = asyncio.create_task(read())
    async with asyncio.timeout(fakes.PATIENCE):
        await heard.news.wait()
        reading.cancel()
        await server.left.wait()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_of_an_error_only_so_much_is_read(server: Server, upstream: Upstream) -> None:
    server.says = answer(b"x" * (3 * ERROR_LIMIT), 500)
    async with upstream.call("GET", "/x") as response:
        found = await read_error(response)
    assert (response.status, len(found)) == (500, ERROR_LIMIT)
