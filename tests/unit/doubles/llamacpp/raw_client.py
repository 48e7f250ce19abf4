"""A client that shows a reply's bytes as they came."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
STREAM = CHAT | {"stream": True}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"
    b"X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
)


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, path: str, body: dict[str, Any] | bytes | None = None, head: str = "") -> None:
        data = body if isinstance(body, bytes) else orjson.dumps(body) if body else b""
        method = "GET" if body is None else "POST"
        lines = (
            f"{method} {path} HTTP/1.1\r\nHost: mock\r\n{head}Content-Length: {len(data)}\r\n\r\n"
        )
        self.writer.write(lines.encode() + data)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, head: bytes) -> bytes:
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        return await self.reader.readexactly(int(length[1]))

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def get(self, path: str) -> Any:
        self.send(path)
        return orjson.loads(await self.body(await self.head()))

    async def ask(self, path: str, body: dict[str, Any] | bytes) -> tuple[int, Any]:
        self.send(path, body)
        head = await self.head()
        return int(head.split()[1]), orjson.loads(await self.body(head))

    async def stream(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> list[bytes]:
        self.send(path, body)
        assert await self.head() == STREAM_HEAD
        return [chunk async for chunk in self.chunks()]


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
