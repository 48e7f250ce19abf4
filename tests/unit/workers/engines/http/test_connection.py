"""The HTTP client against raw sockets that behave well and badly."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from unittest.mock import Mock

import pytest
import uvloop

from tests.unit.fakes import PATIENCE
from workers.engines.base import EngineFault
from workers.engines.http import connection, upstream
from workers.engines.http.connection import HIGH_WATER
from workers.engines.http.upstream import Upstream

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[str]:
    """A server that gives each connection to `talk`."""

    talks: set[asyncio.Task[None] | None] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await _turns()  # what was accepted is talked to
        server.close()
        for task in filter(None, talks):
            task.cancel()
        await asyncio.gather(*filter(None, talks), return_exceptions=True)
        await _turns()  # closed and aborted transports end in the next turns


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def get(client: Upstream, path: str = "/") -> tuple[int, bytes]:
    async with client.call("GET", path) as response:
        return response.status, await response.read()


async def test_one_connection_serves_many_requests() -> None:
    connections = 0
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            asked.append(await head_of(reader))
            writer.write(OK)

    async with serving(talk) as url:
        client = Upstream("e", url + "/base", "x")
        assert [await get(client, f"/{i}") for i in range(3)] == [(200, b"hello")] * 3
        await client.close()
    assert connections == 1
    assert asked[1].startswith(b"GET /base/1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer x\r\n" in asked[1]


def test_on_the_loop_that_workers_run_on() -> None:
    """uvloop's transports are no subclass of asyncio's."""
    uvloop.run(_greet())


async def _greet() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(OK)

    async with serving(talk) as url:
        client = Upstream("e", url)
        assert await get(client) == (200, b"hello")
        await client.close()


async def test_a_body_is_sent_with_its_length() -> None:
    got: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await head_of(reader)
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        got.append(await reader.readexactly(size))
        writer.write(OK)

    async with serving(talk) as url:
        client = Upstream("e", url)
        async with client.call("POST", "/", b"x" * 3_000_000, "application/json") as response:
            assert await response.read() == b"hello"
        await client.close()
    assert got == [b"x" * 3_000_000]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        *(
            (b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\n\r\n%b" % packed, b"abc" * 99)
            for packed in (
                (b"gzip", gzip.compress(b"abc" * 99, mtime=0)),
                (b"X-GZip", gzip.compress(b"abc" * 99, mtime=0)),
                (b"deflate", zlib.compress(b"abc" * 99)),
                (b"identity", b"abc" * 99),
            )
        ),
    ],
)
async def test_every_way_to_frame_a_body(answer: bytes, body: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        for byte in range(len(answer)):  # one at a time: no read needs to hold a whole anything
            writer.write(answer[byte : byte + 1])
            await writer.drain()

    async with serving(talk) as url:
        client = Upstream("e", url)
        assert (await get(client))[1] == body
        await client.close()


async def test_the_first_bytes_of_a_packed_body_are_not_its_end() -> None:
    packed = gzip.compress(b"abc")
    one = connection.Connection()
    one.connection_made(Mock(spec=asyncio.Transport))
    asked = asyncio.create_task(one.ask((b"", b"")))
    await asyncio.sleep(0)
    one.data_received(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + packed[:5])
    reading = asyncio.create_task((await asked).readany())
    await asyncio.sleep(0)
    one.data_received(packed[5:])
    assert await reading == b"abc"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        CHUNKED + b"5\r\nhel",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno gzip",
    ],
)
async def test_an_answer_that_ends_early_or_is_no_http_is_a_fault(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(answer)

    async with serving(talk) as url:
        client = Upstream("e", url)
        with pytest.raises(EngineFault, match="broke the connection"):
            await get(client)
        await client.close()


async def test_a_stale_connection_is_replaced_unseen() -> None:
    closed = asyncio.Event()
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await head_of(reader)
        writer.write(OK)
        if connections == 1:  # as a server does that limits requests for each connection
            await head_of(reader)
            closed.set()
        else:
            await head_of(reader)

    async with serving(talk) as url:
        client = Upstream("e", url)
        assert await get(client) == (200, b"hello")
        assert await get(client) == (200, b"hello")
        await client.close()
    assert closed.is_set()
    assert connections == 2


async def test_leaving_in_the_middle_closes_the_connection() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(CHUNKED + b"2\r\nab\r\n")
        assert await reader.read() == b""
        left.set()

    async with serving(talk) as url:
        client = Upstream("e", url)
        async with client.call("GET", "/") as response:
            assert await response.readany() == b"ab"
        await asyncio.wait_for(left.wait(), PATIENCE)


async def test_leaving_before_the_head_closes_the_connection() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        asked.set()
        assert await reader.read() == b""
        left.set()

    async with serving(talk) as url:
        client = Upstream("e", url)
        task = asyncio.create_task(get(client))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(left.wait(), PATIENCE)


async def test_a_slow_reader_holds_the_server_back() -> None:
    size = HIGH_WATER * 32
    sent = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(32):
            writer.write(b"x" * HIGH_WATER)
            await writer.drain()
        sent.set()

    async with serving(talk) as url:
        client = Upstream("e", url)
        async with client.call("GET", "/") as response:
            first = await response.readany()
            assert not sent.is_set()
            assert len(first) + len(await response.read()) == size
        await client.close()


async def test_nobody_there() -> None:
    async with serving(_never) as url:
        pass
    with pytest.raises(EngineFault, match="cannot be reached"):
        await get(Upstream("e", url))


async def test_no_header_can_be_smuggled_in() -> None:
    async with serving(_never) as url:
        with pytest.raises(EngineFault, match="control character"):
            await get(Upstream("e", url), "/a\r\nX: y")


async def test_a_server_that_does_not_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "CONNECT_TIMEOUT", 0.0)
    async with serving(_never) as url:
        with pytest.raises(EngineFault, match="no connection"):
            await get(Upstream("e", url))


async def _never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST", 1000)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(CHUNKED)
        while True:
            writer.write(b"64\r\n" + bytes(100) + b"\r\n")
            await writer.drain()

    async with serving(talk) as url:
        with pytest.raises(EngineFault, match="more than 1000 bytes"):
            await get(Upstream("e", url))
        with pytest.raises(EngineFault, match="more than 1000 bytes"):
            async with Upstream("e", url).call("GET", "/") as response:
                _ = [piece async for piece in response.pieces()]


HEAD_OK = b"HTTP/1.1 200 OK\r\n"
BOMB = zlib.compress(bytes(20 * 2**20))
ENDLESS = [
    (HEAD_OK, b"X-A: b\r\n", "lines"),
    (HEAD_OK, b"X-Much: " + b"v" * 4000 + b"\r\n", "bytes"),
    (HEAD_OK + b"X-Much: ", b"v" * 4000, "bytes"),
    (b"", b"HTTP/1.1 102 Processing\r\n\r\n", "lines"),
    (CHUNKED + b"1;x=", b"y" * 4000, "bytes"),
    (CHUNKED + b"0\r\n", b"X-Much: " + b"v" * 4000 + b"\r\n", "bytes"),
    (CHUNKED + b"0\r\n", b"X-A: b\r\n", "lines"),
]


@pytest.mark.parametrize(("begin", "more", "why"), ENDLESS)
async def test_a_head_without_an_end_is_hung_up(begin: bytes, more: bytes, why: str) -> None:
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await head_of(reader)
        writer.write(begin)
        while True:
            writer.write(more)
            written += len(more)
            await writer.drain()

    async with serving(talk) as url:
        client = Upstream("e", url)
        with pytest.raises(EngineFault, match=f"more than .* {why}"):
            await get(client)
        await client.close()
    assert written < 16 * 2**20, "the sockets hold some of it"


async def test_a_head_that_trickles_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIME", 0.05)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(HEAD_OK)
        await reader.read()

    async with serving(talk) as url:
        client = Upstream("e", url)
        with pytest.raises(EngineFault, match="took more than"):
            await get(client)
        await client.close()


async def test_a_pause_between_the_pieces_of_a_body_is_no_slow_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of a piece's line may come with the next piece, or the other way round."""
    monkeypatch.setattr(connection, "HEAD_TIME", 0.01)
    one = connection.Connection()
    one.connection_made(Mock(spec=asyncio.Transport))
    asked = asyncio.create_task(one.ask((b"", b"")))
    await asyncio.sleep(0)
    one.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    one.data_received(CHUNKED + b"2\r\nab")
    one.data_received(b"\r\n1")
    await asyncio.sleep(0.03)
    one.data_received(b"\r\nc\r\n0\r\n\r\n")
    assert await (await asked).read() == b"abc"


async def test_a_few_bytes_that_unpack_to_many_are_hung_up() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(HEAD_OK + b"Content-Encoding: deflate\r\n\r\n" + BOMB)
        await reader.read()

    async with serving(talk) as url:
        client = Upstream("e", url)
        with pytest.raises(EngineFault, match="unpacks to more"):
            await get(client)
        await client.close()


class Delivered:
    """A connection of which each read is told, and a body that is delivered."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.refuses = b""
        self.connection = connection.Connection()
        self.connection.connection_made(Mock(spec=asyncio.Transport))
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        response = await self.connection.ask((b"", b""))
        await response.deliver(self._take)

    def _take(self, piece: bytes) -> None:
        self.pieces.append(piece)
        if piece == self.refuses:
            raise LookupError("enough")

    async def begin(self, more: bytes = b"") -> None:
        await _turns()
        self.connection.data_received(CHUNKED + more)
        await _turns()


async def test_what_a_read_brings_is_delivered_at_once_and_together() -> None:
    body = Delivered()
    await body.begin(b"1\r\na\r\n1\r\nb\r\n")
    assert body.pieces == [b"ab"], "that came before anybody waited"
    body.connection.data_received(b"1\r\nc\r\n2\r\nde\r\n1\r\nf")
    assert body.pieces == [b"ab", b"cdef"], "in the same turn"
    body.connection.data_received(b"\r\n")
    body.connection.data_received(b"1\r\ng\r\n0\r\n\r\n")
    await body.task
    assert body.pieces == [b"ab", b"cdef", b"g"]
    assert body.connection.free


async def test_who_takes_a_piece_may_refuse_it() -> None:
    body = Delivered()
    body.refuses = b"b"
    await body.begin(b"1\r\na\r\n")
    for piece in (b"b", b"c"):
        body.connection.data_received(b"1\r\n%b\r\n" % piece)
    with pytest.raises(LookupError, match="enough"):
        await body.task
    assert body.pieces == [b"a", b"b"], "nothing more is delivered"


@pytest.mark.parametrize("end", [b"5\r\nhal", b"x\r\n"])
async def test_what_came_before_a_break_is_delivered(end: bytes) -> None:
    body = Delivered()
    await body.begin()
    body.connection.data_received(b"1\r\na\r\n" + end)
    body.connection.connection_lost(None)
    with pytest.raises(connection.ConnectionBroken):
        await body.task
    assert b"".join(body.pieces) in (b"a", b"ahal")


async def test_nothing_is_delivered_to_who_has_left() -> None:
    body = Delivered()
    await body.begin(b"1\r\na\r\n")
    body.task.cancel()
    await asyncio.gather(body.task, return_exceptions=True)
    body.connection.data_received(b"1\r\nb\r\n")
    await _turns()
    assert body.pieces == [b"a"]
