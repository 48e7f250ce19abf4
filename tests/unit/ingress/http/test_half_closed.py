"""Clients that end their side of a connection before their answer: some listen, others left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingress.http.protocol import PROBE
from tests.unit import fakes
from tests.unit.ingress.http.size_server import Client, Connect, SizeServer, post


async def asked(connect: Connect, server: SizeServer, *requests: bytes) -> Client:
    """A client whose first request is being worked on."""
    server.open.clear()
    client = await connect()
    client.send(b"".join(requests))
    async with asyncio.timeout(fakes.PATIENCE):
        await server.began.wait()
    return client


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_who_has_said_all_is_answered_and_the_connection_ends(
    connect: Connect, server: SizeServer, version: bytes
) -> None:
    client = await asked(connect, server, post(b"abc").replace(b"1.1", version))
    client.writer.write_eof()
    async with asyncio.timeout(fakes.PATIENCE):
        assert await client.reader.readexactly(1) == b"H", "it was asked whether it is there"
    server.open.set()
    head, _, body = (await client.ended()).partition(b"\r\n\r\n")
    assert head.startswith(b"TTP/1.1 200 OK\r\n")
    assert head.lower().count(b"connection:") == 1
    assert body == b'{"size":3}'
    assert not server.gone.is_set()


async def test_who_is_answered_at_once_gets_the_whole_answer(connect: Connect) -> None:
    """The request, its end and the answer fall into one turn of the event loop."""
    for _ in range(20):
        client = await connect()
        client.send(post(b"abc"))
        client.writer.write_eof()
        assert (await client.ended()).endswith(b'{"size":3}')


async def test_so_are_all_requests_that_it_sent_before(
    connect: Connect, server: SizeServer
) -> None:
    client = await asked(connect, server, post(b"a"), post(b"ab"))
    client.writer.write_eof()
    server.open.set()
    sizes = [(await client.answer())[2]["size"] for _ in range(2)]
    assert (sizes, await client.ended()) == ([1, 2], b"")


async def test_one_who_left_is_noticed_though_nothing_was_to_be_sent(
    connect: Connect, server: SizeServer
) -> None:
    client = await asked(connect, server, post(b"abc"))
    client.writer.close()
    async with asyncio.timeout(fakes.PATIENCE):
        await server.gone.wait()


async def test_an_answer_that_was_begun_is_what_tells(connect: Connect, server: SizeServer) -> None:
    client = await asked(connect, server, post(b"abc").replace(b"/", b"/early", 1))
    async with asyncio.timeout(fakes.PATIENCE):
        await client.reader.readuntil(b"\r\n\r\n")
    probed = asyncio.Event()
    state: dict[str, Any] = server.states[-1]
    state[PROBE] = probed.set
    client.writer.write_eof()
    async with asyncio.timeout(fakes.PATIENCE):
        await probed.wait()
    server.open.set()
    assert await client.ended() == b'{"size":3}'


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\n", post(b"abc")[:-1]])
async def test_who_has_not_asked_yet_gets_no_answer(connect: Connect, sent: bytes) -> None:
    client = await connect()
    client.send(sent)
    client.writer.write_eof()
    assert await client.ended() == b""
