"""A client that means ill, or is merely broken: it does one thing of a table, over and over.

    python -m tests.doubles.hostile.client ACT http://127.0.0.1:8080 KEY

It says ``begun`` once all of it is under way, and goes on until it is ended. It runs as a process
of its own, so that whoever measures what others notice of it does not share its event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"
MEGABYTE = 2**20
Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Target:
    """`silent`: the address of a server that takes requests and answers none."""

    def __init__(self, url: str, key: str, silent: str) -> None:
        self.silent = silent
        where = urlsplit(url)
        assert where.hostname
        self._where = where.hostname, where.port
        self._key = key

    @asynccontextmanager
    async def connected(self, source: str = "127.0.0.1") -> AsyncIterator[Connected]:
        """`source`: the address that it comes from; Linux has 16 million of its own."""
        reader, writer = await asyncio.open_connection(*self._where, local_addr=(source, 0))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def head(self, length: int) -> bytes:
        return head_of(self._key, length)

    async def ask(self, body: bytes) -> bytes:
        """All that is answered."""
        async with self.connected() as (reader, writer):
            writer.write(self.head(len(body)) + body)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            return await reader.read()


def head_of(key: str, length: int) -> bytes:
    """The head of a chat request with a body of `length` bytes."""
    lines = "Host: x", "Connection: close", f"Authorization: Bearer {key}"
    return "\r\n".join(
        (f"POST {CHAT} HTTP/1.1", *lines, f"Content-Length: {length}", "", "")
    ).encode()


def chat(content: Any = "hi", **more: Any) -> bytes:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": "echo", "messages": messages, **more}).encode()


async def large_bodies(target: Target) -> None:
    """32 requests of 16 MB at once, for answers that take long."""
    body = chat("x" * (16 * MEGABYTE), echo={"first_ms": 60_000})
    await _at_once(target.ask(body) for _ in range(32))


async def refused_bodies(target: Target) -> None:
    """Large requests with a mistake, four at a time."""
    body = chat("x" * (4 * MEGABYTE), temperature=99)
    await _at_once(target.ask(body) for _ in range(4))


async def many_values(target: Target) -> None:
    """Requests with a mistake and 200,000 messages, four at a time."""
    messages = [{"role": "user", "content": "x" * 50}] * 200_000
    body = json.dumps({"model": "echo", "messages": messages, "temperature": 99}).encode()
    await _at_once(target.ask(body) for _ in range(4))


async def leaving(target: Target) -> None:
    """Large requests whose client leaves in their middle, or at once behind them."""

    async def one(part: float) -> None:
        body = chat("x" * (4 * MEGABYTE), echo={"first_ms": 60_000})
        async with target.connected() as (_, writer):
            writer.write(target.head(len(body)) + body[: round(len(body) * part)])
            await writer.drain()

    await _at_once(one(part) for part in (0.5, 1, 0.5, 1))


async def drip(target: Target) -> None:
    """100 bodies of 16 MB of which a byte comes each second."""

    async def one() -> None:
        async with target.connected() as (_, writer):
            writer.write(target.head(16 * MEGABYTE))
            await _dripping(writer, b"{")

    await _at_once(one() for _ in range(100))


async def slow_heads(target: Target) -> None:
    """More heads than an ingress has connections, from many addresses, each a line a second."""

    async def one(number: int) -> None:
        async with target.connected(f"127.0.1.{number % 100 + 1}") as (_, writer):
            writer.write(f"POST {CHAT} HTTP/1.1\r\n".encode())
            await _dripping(writer, b"x: y\r\n")

    await _at_once(map(one, range(300)))


async def idle(target: Target) -> None:
    """More connections than an ingress has, from many addresses, kept alive for nothing."""

    async def one(number: int) -> None:
        async with target.connected(f"127.0.1.{number % 100 + 1}") as (reader, writer):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.read()

    await _at_once(map(one, range(300)))


async def unread(target: Target) -> None:
    """Answers that nobody reads."""
    body = chat("word " * 20_000, stream=True)

    async def one() -> None:
        async with target.connected() as (_, writer):
            writer.write(target.head(len(body)) + body)
            await writer.drain()
            await asyncio.sleep(5)

    await _at_once(one() for _ in range(4))


async def schema_bombs(target: Target) -> None:
    """Twelve schemas at a time that take for ever to be checked."""
    layers = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    bomb = {"$ref": "#/$defs/d0", "$defs": {**layers, "d40": {"type": "integer"}}}

    async def one(number: int) -> None:
        schema = {"name": "s", "schema": {**bomb, "title": f"{number} {time.time()}"}}
        form = {"type": "json_schema", "json_schema": schema}
        await target.ask(chat(response_format=form))

    await _at_once(map(one, range(12)))


async def slow_pictures(target: Target) -> None:
    """Three requests at a time with 32 pictures each, at addresses that never answer."""
    urls = [f"{target.silent}/{number}" for number in range(32)]
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    body = chat(pictures, model="tiny:latest")
    await _at_once(target.ask(body) for _ in range(3))


async def pipelined(target: Target) -> None:
    """A hundred requests on one connection, of which none waits for its answer."""
    body = chat("hi")
    one = target.head(len(body)).replace(b"Connection: close\r\n", b"") + body
    async with target.connected() as (reader, writer):
        writer.write(one * 100)
        await reader.read()


async def ahead(target: Target) -> None:
    """40 connections with a request that takes long, and sixty behind it that are not small."""
    first, next_ = chat(echo={"first_ms": 60_000}), chat("x" * 60_000)
    close = b"Connection: close\r\n"
    heads = [target.head(len(body)).replace(close, b"") + body for body in (first, next_)]

    async def one() -> None:
        async with target.connected() as (reader, writer):
            for request in (heads[0], *[heads[1]] * 60):  # each is whole where it is read
                writer.write(request)
                await writer.drain()
                await asyncio.sleep(0.02)
            await reader.read()

    await _at_once(one() for _ in range(40))


async def packed(target: Target) -> None:
    """Four small bodies at a time that unpack to very much."""
    bomb = gzip.compress(bytes(64 * MEGABYTE), 9)
    head = target.head(len(bomb)).replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")

    async def one() -> None:
        async with target.connected() as (reader, writer):
            writer.write(head + bomb)
            await reader.read()

    await _at_once(one() for _ in range(4))


ACTS: dict[str, Callable[[Target], Awaitable[None]]] = {
    act.__name__: act
    for act in (
        *(large_bodies, refused_bodies, many_values, leaving, drip, slow_heads, idle, unread),
        *(schema_bombs, slow_pictures, pipelined, ahead, packed),
    )
}


async def _dripping(writer: asyncio.StreamWriter, drop: bytes) -> None:
    while True:
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(1)


async def _at_once(acts: Iterable[Awaitable[object]]) -> None:
    """All of them; it does not matter how they end."""
    await asyncio.gather(*acts, return_exceptions=True)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=sorted(ACTS))
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--silent", default="http://127.0.0.1:9")
    options = parser.parse_args()
    target, act = Target(options.url, options.key, options.silent), ACTS[options.act]
    asyncio.get_running_loop().call_later(0.5, lambda: print("begun", flush=True))
    while True:
        with contextlib.suppress(OSError):
            await act(target)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
