"""Answers to HTTP/1.0, as uvicorn's cycle writes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit import fakes
from tests.unit.ingress.http.served import served

CHUNKS = [(b"connection", b"keep-alive"), (b"transfer-encoding", b"chunked")]
STARTS: dict[str, tuple[int, list[tuple[bytes, bytes]]]] = {
    "/stream": (200, [(b"content-type", b"text/event-stream"), CHUNKS[0]]),
    "/chunks": (200, CHUNKS),
    "/length": (200, [(b"content-length", b"6")]),
    "/closing": (413, [(b"Connection", b"close")]),
    "/nothing": (204, []),
}


async def _pieces(scope: Any, receive: Any, send: Any) -> None:
    status, headers = STARTS[scope["path"]]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in (b"one", b"two") if status != 204 else ():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with served(_pieces) as (port, _):
        yield port


async def told(port: int, request: str) -> tuple[list[str], bytes]:
    """(the head's lines, all that follows until the connection ends)."""
    async with asyncio.timeout(fakes.PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request}\r\nexpect: 100-continue\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    return head.decode().lower().split("\r\n"), body


@pytest.mark.parametrize("path", [path for path in STARTS if path != "/nothing"])
async def test_an_answer_ends_with_the_connection_and_says_so_once(port: int, path: str) -> None:
    head, body = await told(port, f"GET {path} HTTP/1.0")
    assert body == b"onetwo"
    assert head.count("connection: close") == 1
    assert sum(line.startswith("connection:") for line in head) == 1
    assert not any(line.startswith("transfer-encoding") for line in head)
    assert ("content-length: 6" in head) == (path == "/length")


@pytest.mark.parametrize("request_", ["HEAD /stream HTTP/1.0", "GET /nothing HTTP/1.0"])
async def test_what_has_no_body_gets_none(port: int, request_: str) -> None:
    head, body = await told(port, request_)
    assert (body, head.count("connection: close")) == (b"", 1)


async def test_newer_clients_get_chunks(port: int) -> None:
    head, body = await told(port, "GET /stream HTTP/1.1\r\nhost: x\r\nconnection: close")
    assert "transfer-encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
