"""The limits of a request's head, by real connections to uvicorn."""

from __future__ import annotations

import asyncio

import pytest

from ingress.http import protocol as http_protocol
from tests.unit import fakes
from tests.unit.ingress.http.size_server import HEAD, Client, Connect, SizeServer, post


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


BAD = {
    "a verb": b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n",
    "a head": b"GET / HTTP/1.1\r\nx-request-id: mine\r\n" + b"a: b\r\n" * HEAD + b"\r\n",
    "a length": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    "a chunk": b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "no HTTP": b"\x16\x03\x01",
}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_refused_unread_has_a_request_id_too(connect: Connect, what: str) -> None:
    client = await connect()
    client.send(BAD[what])
    status, headers, _ = await client.answer()
    assert status == (431 if what == "a head" else 400)
    expected = "mine" if what == "a head" else headers["x-request-id"]
    assert headers["x-request-id"] == expected
    assert expected == "mine" or expected.startswith("req-")


H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")


async def test_an_offer_of_another_protocol_does_not_cost_the_body(connect: Connect) -> None:
    client = await connect()
    for size in (5, 0, 3 * HEAD):
        client.send(post(bytes(size), *H2C))
        assert (await client.answer())[0::2] == (200, {"size": size})
    client.send(post(bytes(7)))
    assert (await client.answer())[2] == {"size": 7}


async def test_an_offer_may_come_byte_by_byte_and_chunked(connect: Connect) -> None:
    client = await connect()
    head = post(b"", *H2C).replace(b"content-length: 0", b"transfer-encoding: chunked")
    for byte in head + b"3\r\nabc\r\n0\r\n\r\n":
        client.send(bytes([byte]))
        await client.writer.drain()
    assert (await client.answer())[2] == {"size": 3}


async def test_an_offer_is_no_way_around_the_limit(connect: Connect) -> None:
    client = await connect()
    client.send(post(b"", *H2C, f"x-long: {'y' * HEAD}"))
    assert (await client.answer())[0] == 431


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
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 0.15)


@pytest.mark.usefixtures("_hasty")
async def test_a_connection_without_a_request_is_closed(connect: Connect) -> None:
    client = await connect()
    assert await client.ended() == b""


@pytest.mark.usefixtures("_hasty")
async def test_a_head_has_only_so_much_time(connect: Connect) -> None:
    client = await connect()
    client.send(b"GET / HTTP/1.1\r\nx: ")
    assert (await client.answer())[0] == 408
    assert await client.ended() == b""


@pytest.mark.usefixtures("_hasty")
async def test_so_has_the_head_of_a_later_request(connect: Connect) -> None:
    client = await connect()
    client.send(post(b"x"))
    await client.answer()
    client.send(b"GET / HTTP/1.1\r\nx: ")
    assert (await client.answer())[0] == 408
    assert await client.ended() == b""


@pytest.mark.usefixtures("_hasty")
async def test_an_answer_may_take_its_time(connect: Connect, server: SizeServer) -> None:
    server.open.clear()
    client = await connect()
    client.send(post(b"x"))
    await server.began.wait()
    asyncio.get_running_loop().call_later(1.5 * http_protocol.HEAD_TIMEOUT, server.open.set)
    assert (await client.answer())[0] == 200


async def test_a_client_that_leaves_is_noticed(connect: Connect, server: SizeServer) -> None:
    server.open.clear()
    client = await connect()
    client.send(post(b"x"))
    await server.began.wait()
    client.writer.close()
    async with asyncio.timeout(fakes.PATIENCE):
        await server.gone.wait()
    server.open.set()
    assert server.gone.is_set()


async def test_a_client_that_leaves_after_its_answer_is_not(
    connect: Connect, server: SizeServer
) -> None:
    client = await connect()
    client.send(post(b"x"))
    await client.answer()
    client.writer.close()
    await client.writer.wait_closed()
    other = await connect()
    other.send(post(b"y"))
    await other.answer()
    assert not server.gone.is_set()


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"0\r\n", b"x: y\r\n"),
        (b"0\r\nx: ", b"y"),
        (b"1\r\nz\r\n1;x=", b"y"),
    ],
    ids=["trailers", "trailer", "chunk"],
)
async def test_what_follows_a_head_and_is_no_body_is_limited_too(
    connect: Connect, begin: bytes, more: bytes
) -> None:
    client = await connect()
    client.send(CHUNKED + begin)
    answer = asyncio.ensure_future(client.answer())
    while not answer.done():
        client.send(more * (HEAD // 4))
        await asyncio.sleep(0)
    assert (await answer)[0] == 431


async def test_short_trailers_are_passed_over(connect: Connect) -> None:
    client = await connect()
    client.send(CHUNKED + b"3;a=b\r\nxyz\r\n0\r\nx-sum: 1\r\n\r\n" + post(b"ab"))
    assert (await client.answer())[2] == {"size": 3}
    assert (await client.answer())[2] == {"size": 2}


async def test_only_so_many_requests_wait_for_an_earlier_answer(
    connect: Connect, server: SizeServer
) -> None:
    server.open.clear()
    client = await connect()
    client.send(post(b"x") * (1 + http_protocol.PIPELINED))
    await server.began.wait()
    server.open.set()
    for _ in range(1 + http_protocol.PIPELINED):
        await client.answer()
    server.open.clear()
    client.send(post(b"x") * (2 + http_protocol.PIPELINED))
    assert await client.ended() == b""


async def test_a_client_that_leaves_is_noticed_though_it_asked_for_more(
    connect: Connect, server: SizeServer
) -> None:
    server.open.clear()
    client = await connect()
    client.send(post(b"x"))
    await server.began.wait()
    client.send(post(b"y"))
    client.writer.close()
    async with asyncio.timeout(fakes.PATIENCE):
        await server.gone.wait()
    server.open.set()


async def test_nonsense_is_not_answered_in_the_middle_of_an_answer(
    connect: Connect, server: SizeServer
) -> None:
    server.open.clear()
    client = await connect()
    client.send(post(b"x").replace(b"/", b"/early", 1))
    await server.began.wait()
    client.send(b"nonsense\r\n\r\n")
    head, _, body = (await client.ended()).partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"")
    server.open.set()


async def test_a_body_may_not_pause_for_long(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT", 0.15)
    client = await connect()
    client.send(post(b"xy")[:-1])
    status, _, said = await client.answer()
    assert (status, said["error"]["code"]) == (408, "request_timeout")
    assert await client.ended() == b""


async def test_nor_may_it_drip(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes buys time, but only as much as it would take at the slowest that is allowed."""
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT", 0.3)
    client = await connect()
    client.send(post(bytes(1000))[:-1000])
    dripping = asyncio.create_task(_drip(client))
    assert (await client.answer())[0] == 408
    dripping.cancel()


async def test_a_steady_body_may_take_longer(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT", 0.9)
    monkeypatch.setattr(http_protocol, "SLOWEST", 1)
    client = await connect()
    client.send(post(bytes(20))[:-20])
    await _drip(client, 20)
    assert (await client.answer())[2] == {"size": 20}


async def _drip(client: Client, times: int = 1000) -> None:
    for _ in range(times):
        client.send(b"\0")
        await asyncio.sleep(0.05)


async def test_a_body_that_nobody_reads_yet_may(
    connect: Connect, server: SizeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT", 1.0)
    server.open.clear()
    client = await connect()
    client.send(post(b"x"))
    await server.began.wait()
    client.send(post(bytes(1000 * HEAD)))
    asyncio.get_running_loop().call_later(2 * http_protocol.BODY_TIMEOUT, server.open.set)
    assert (await client.answer())[2] == {"size": 1}
    assert (await client.answer())[2] == {"size": 1000 * HEAD}
