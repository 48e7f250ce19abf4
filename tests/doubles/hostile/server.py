"""A hostile engine or provider: it lists its models and passes its check as any server with the API
of OpenAI, and answers jobs by `ACTS`."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import orjson

from tests.doubles.raw import EVENTS, JSON, listening, request

MODEL = "bad"
Act = Callable[[asyncio.StreamWriter], Awaitable[None]]
_SIZED = b"Content-Length: %d\r\n\r\n"
_AT_ONCE = 10_000
"""Entries of one write."""
BRACKETS = b"[[[]]],"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


def document(content: str = "x", **more: object) -> bytes:
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return orjson.dumps({"id": "c", "object": "chat.completion", "choices": choices, **more})


def _head(kind: str, more: bytes = b"", status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: %b\r\n%b" % (status, kind.encode(), more)


def whole(body: bytes, kind: str = JSON, status: int = 200) -> Act:
    """One answer with its length."""
    data = _head(kind, b"Content-Length: %d\r\n\r\n" % len(body), status) + body
    return pieces(data)


def pieces(*data: bytes) -> Act:
    """These bytes, and then nothing more."""

    async def act(writer: asyncio.StreamWriter) -> None:
        for piece in data:
            writer.write(piece)
            await writer.drain()

    return act


def endless(begin: bytes, more: bytes, pause: float = 0.0) -> Act:
    """`begin`, and then `more` for ever."""

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(pause)

    return act


def many(begin: bytes, entry: bytes, end: bytes = b"", size: int = 2**24) -> Act:
    """`begin`, `size` bytes with a list of `entry` as often as it fits, and `end`."""
    first, last = b'"x":[', b"1]}"
    times, left = divmod(size - len(first) - len(last) - 1, len(entry))

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(begin + first)
        for _ in range(times // _AT_ONCE):
            writer.write(entry * _AT_ONCE)
            await writer.drain()
        writer.write(entry * (times % _AT_ONCE) + b" " * left + last + end)
        await writer.drain()

    return act


def usage(count: object) -> bytes:
    names = "prompt_tokens", "completion_tokens", "total_tokens"
    return document(usage=dict.fromkeys(names, count))


async def _leave(writer: asyncio.StreamWriter) -> None:
    writer.close()


_BOMB = zlib.compress(bytes(200 * 2**20), 1)
_CHUNK = b"%x\r\n%b\r\n" % (2**18, b"x" * 2**18)

ACTS: Mapping[str, Act] = {
    "a head of endless lines": endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000),
    "a line of a head without an end": endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 100_000),
    "endless announcements": endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000),
    "an endless end": endless(_head(JSON, _CHUNKED) + b"\r\n0\r\n", b"X-A: b\r\n" * 1000),
    "a chunk's words without an end": endless(_head(JSON, _CHUNKED) + b"\r\n1;", b"a" * 100_000),
    "an endless document": endless(_head(JSON, _CHUNKED) + b"\r\n", _CHUNK),
    "an endless event": endless(_head(EVENTS, _CHUNKED) + b"\r\n", _CHUNK),
    "a bomb that unpacks to 200 MB": pieces(
        _head(JSON, b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(_BOMB)), _BOMB
    ),
    "a type of 1.85 MB": whole(document(), "t" * 1_850_000),
    "a type of 60 kB": whole(document(), "t" * 60_000),
    "an error of 1.85 MB": whole(b'{"error":{"message":"%b"}}' % (b"e" * 1_850_000), JSON, 500),
    "a refusal of 1.85 MB": whole(b'{"error":{"message":"%b"}}' % (b"e" * 1_850_000), JSON, 400),
    "a page of 1.85 MB": whole(b"<html>" + b"p" * 1_850_000, "text/html"),
    "2^64-1 tokens": whole(usage(2**64 - 1)),
    "2^63 tokens": whole(usage(2**63)),
    "1e300 tokens": whole(usage(1e300)),
    "tokens below zero": whole(usage(-5)),
    "true tokens": whole(usage(True)),
    "tokens in words": whole(usage("many")),
    "a document that is nested deeply": whole(b"[" * 100_000),
    "a document of 16 MiB of brackets": many(_head(JSON, _SIZED % 2**24) + b"{", BRACKETS),
    "an event of 16 MiB of brackets": many(_head(EVENTS) + b"\r\ndata: {", BRACKETS, b"\n\n"),
    "no HTTP": pieces(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "nothing": _leave,
}


class HostileServer:
    """`act`: what it does with the next jobs. `listed`: the names of its models."""

    def __init__(self) -> None:
        self.url = ""
        self.act: Act = whole(document())
        self.listed: list[object] = [MODEL]
        self.talks: set[asyncio.Task[Any]] = set()

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.talks.add(task)
        with closing(writer), suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await self._answer(*await request(reader), writer)
        self.talks.discard(task)

    async def _answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            listed = [{"id": name, "object": "model"} for name in self.listed]
            await whole(orjson.dumps({"object": "list", "data": listed}))(writer)
        elif path != "/v1/chat/completions":
            await whole(b'{"error":{"message":"no"}}', JSON, 404)(writer)
        elif body == b"{}":
            await whole(b'{"error":{"message":"no"}}', JSON, 400)(writer)
        elif b'"hi"' in body:  # the small job of a check
            await whole(document())(writer)
        else:
            await self.act(writer)


@asynccontextmanager
async def hostile_server() -> AsyncIterator[HostileServer]:
    server = HostileServer()
    async with listening(server):
        yield server
