"""Pieces of a stream that go past ASGI: a client gets the same bytes as by it. The whole
application behind uvicorn's protocol, on a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from ingress.http.streamed import Straight
from ingress.jobs.ticket import Ticket
from schemas.api import sse
from tests.unit import fakes
from tests.unit.ingress.asgi import CHAT, SECRET, FakeBusIngress
from tests.unit.ingress.http.served import served
from tests.unit.ingress.jobs.recorder import Holder

A = Holder("a", 1)
EVENTS = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % n for n in range(20)]
LINES = {
    "straight": "HTTP/1.1\r\nhost: x\r\n",
    "a page": "HTTP/1.1\r\nhost: x\r\norigin: http://localhost\r\n",
    "an old client": "HTTP/1.0\r\n",
}


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, line: str) -> None:
        asked = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        body = orjson.dumps(asked)
        head = f"POST {CHAT} {line}authorization: Bearer {SECRET}\r\ncontent-length: {len(body)}"
        self.writer.write(head.encode() + b"\r\n\r\n" + body)

    async def piece(self, end: bytes) -> bytes:
        async with asyncio.timeout(fakes.PATIENCE):
            return await self.reader.readuntil(end)

    async def whole(self) -> bytes:
        """The rest of the answer, without the sizes of its chunks."""
        async with asyncio.timeout(fakes.PATIENCE):
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            return body


@asynccontextmanager
async def client_of(ingress: FakeBusIngress) -> AsyncIterator[Client]:
    async with served(ingress.app) as (port, _):
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        yield client
        client.writer.close()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What went past ASGI."""
    found: list[bytes] = []
    write = Straight.write

    def note(self: Straight, piece: bytes) -> None:
        found.append(piece)
        write(self, piece)

    monkeypatch.setattr(Straight, "write", note)
    return found


def hear(ticket: Ticket, *frames: Any) -> None:
    for frame in frames:
        ticket.frame(frame, ticket.times.queued)


async def started(ingress: FakeBusIngress, client: Client, line: str = LINES["straight"]) -> Ticket:
    client.ask(line)
    ticket = await ingress.held(A)
    hear(ticket, A.start(kind=sse.CONTENT_TYPE))
    await client.piece(b"\r\n\r\n")
    return ticket


@pytest.mark.parametrize("how", LINES)
async def test_every_client_gets_the_same(
    ingress: FakeBusIngress, written: list[bytes], how: str
) -> None:
    async with client_of(ingress) as client:
        ticket = await started(ingress, client, LINES[how])
        for number, event in enumerate(EVENTS, 1):
            hear(ticket, A.data(number, event))
            assert (await client.piece(sse.BREAK)).endswith(event), "at once"
        hear(ticket, A.data(21, sse.DONE), A.end(22))
        assert sse.DONE in await client.piece(sse.BREAK)
        assert (len(written) > 10) is (how == "straight")
        assert set(written) <= set(EVENTS)


async def test_what_comes_in_one_turn_is_one_piece(
    ingress: FakeBusIngress, written: list[bytes]
) -> None:
    async with client_of(ingress) as client:
        ticket = await started(ingress, client)
        hear(ticket, A.data(1, EVENTS[0]))
        await client.piece(sse.BREAK)
        hear(ticket, *(A.data(n, event) for n, event in enumerate(EVENTS[1:5], 2)))
        await client.piece(EVENTS[4])
        assert written[-1] == b"".join(EVENTS[1:5])


async def test_a_client_that_does_not_read_is_waited_for(
    ingress: FakeBusIngress, written: list[bytes]
) -> None:
    async with client_of(ingress) as client:
        ticket = await started(ingress, client)
        large = b"data: %b\n\n" % (b"x" * 100_000)
        for number in range(1, 100):
            hear(ticket, A.data(number, large))
            await fakes.turns(3)
        assert ticket.received.buffered > 0
        assert len(written) < 99
        hear(ticket, A.data(100, sse.DONE), A.end(101))
        assert await client.whole() == large * 99 + sse.DONE


async def test_a_comment_comes_between_the_pieces() -> None:
    ingress = FakeBusIngress(keepalive=0.02)
    async with client_of(ingress) as client:
        client.ask(LINES["straight"])
        ticket = await ingress.held(A)
        await client.piece(b": keep-alive\n\n")
        hear(ticket, A.start(kind=sse.CONTENT_TYPE), A.data(1, EVENTS[0]))
        await client.piece(EVENTS[0])
        hear(ticket, A.data(2, EVENTS[1]))
        await client.piece(EVENTS[1])
        await client.piece(b": keep-alive\n\n")
        hear(ticket, A.data(3, EVENTS[2]))
        await client.piece(EVENTS[2])
        hear(ticket, A.data(4, sse.DONE), A.end(5))
        await client.piece(sse.DONE)


async def test_an_error_comes_behind_the_pieces(
    ingress: FakeBusIngress, written: list[bytes]
) -> None:
    async with client_of(ingress) as client:
        ticket = await started(ingress, client)
        for number in (1, 2):
            hear(ticket, A.data(number, EVENTS[number]))
            await client.piece(EVENTS[number])
        assert written == EVENTS[2:3] or written == EVENTS[1:3]
        hear(ticket, A.data(3, EVENTS[3]), A.fail(4, "engine_failed", retryable=False))
        rest = await client.piece(b"0\r\n\r\n")
        assert EVENTS[3] in rest
        assert b'"code":"engine_failed"' in rest
