"""A server behind uvicorn's protocol with our limits, and a client that writes bytes to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request

from ingress.http import protocol as http_protocol
from ingress.http.body import read_body
from tests.unit import fakes

HEAD = 4096


class SizeServer:
    """A server that answers with the size of each body, once `open` is set."""

    def __init__(self) -> None:
        self.port = 0
        self.gone = asyncio.Event()
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.states: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.states.append(scope["state"])
        scope["state"][http_protocol.CLIENT_GONE] = self.gone.set
        size = len(await read_body(Request(scope, receive), 2**30))
        answer = orjson.dumps({"size": size})
        headers = [(b"content-length", str(len(answer)).encode())]
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        early = scope["path"] == "/early"
        if early:
            await send(start)
        self.began.set()
        await self.open.wait()
        if not early:
            await send(start)
        await send({"type": "http.response.body", "body": answer})


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


Connect = Callable[[], Awaitable[Client]]


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST / HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
