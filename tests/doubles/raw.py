"""An engine or a provider that answers with the bytes that a test says, and ends the connection as
it says."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, Literal, NamedTuple, Protocol

import orjson

EVENTS, JSON = "text/event-stream", "application/json"
Ending = Literal["sized", "chunked", "closed", "short", "unchunked", "reset"]
"""How an answer ends: with its length; with its last chunk; with its connection; and cut: before
its length, before its last chunk, or by RST."""
WHOLE: tuple[Ending, ...] = ("chunked", "sized", "closed")
CUT: tuple[Ending, ...] = ("short", "unchunked", "reset")
_CLOSES = frozenset({"closed", *CUT})


class Said(NamedTuple):
    """An answer that says that all went well."""

    body: bytes
    content_type: str = EVENTS
    ending: Ending = "chunked"
    pieces: int = 1
    """In how many writes it comes."""
    status: int = 200


class RawServer:
    """`answers`: what comes next at a path, the last one for all after it. `asked`: the bodies of
    requests, by path. A request without a body that says anything gets a 400, as probes expect."""

    def __init__(self, model: str = "raw") -> None:
        self.model = model
        self.url = ""
        self.answers: dict[str, list[Said]] = {}
        self.asked: dict[str, list[Any]] = {}
        self.talks: set[asyncio.Task[Any]] = set()

    @property
    def base_url(self) -> str:
        """As a provider's, up to the version."""
        return f"{self.url}/v1"

    def says(self, path: str, *answers: Said) -> None:
        self.answers[path] = [*answers]
        self.asked[path] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.talks.add(task)
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                said = self._answer(*await request(reader))
                await _write(writer, said)
                if said.ending in _CLOSES:
                    break
        self.talks.discard(task)

    def _answer(self, path: str, body: bytes) -> Said:
        if path == "/v1/models":
            listed = {"object": "list", "data": [{"id": self.model, "object": "model"}]}
            return Said(orjson.dumps(listed), JSON, "sized")
        if path not in self.answers:
            return _error(404)
        if body == b"{}":
            return _error(400)
        self.asked[path].append(orjson.loads(body) if body.startswith(b"{") else body)
        left = self.answers[path]
        return left.pop(0) if len(left) > 1 else left[0]


class Talker(Protocol):
    """A server of connections. `talks`: the tasks of those that are open."""

    url: str
    talks: set[asyncio.Task[Any]]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...


@asynccontextmanager
async def listening(server: Talker) -> AsyncIterator[None]:
    """Have it listen on a free port; its connections end with it."""
    found = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{found.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        found.close()
        for talk in server.talks:
            talk.cancel()
        if server.talks:
            await asyncio.wait(server.talks)
        await asyncio.sleep(0)  # a closed transport closes its socket in the next turn


@asynccontextmanager
async def raw_server(answers: Mapping[str, Said] | None = None) -> AsyncIterator[RawServer]:
    server = RawServer()
    for path, said in (answers or {}).items():
        server.says(path, said)
    async with listening(server):
        yield server


async def request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The path and the body of the next request. Raises asyncio.IncompleteReadError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    size = head.partition("content-length:")[2].partition("\r\n")[0]
    return head.split(" ")[1], await reader.readexactly(int(size or 0))


async def _write(writer: asyncio.StreamWriter, said: Said) -> None:
    chunked = said.ending in ("chunked", "unchunked")
    head = f"HTTP/1.1 {said.status} Said\r\nContent-Type: {said.content_type}\r\n"
    if chunked:
        head += "Transfer-Encoding: chunked\r\n"
    elif said.ending in ("sized", "short"):
        head += f"Content-Length: {len(said.body) + 9 * (said.ending == 'short')}\r\n"
    else:
        head += "Connection: close\r\n"
    writer.write(f"{head}\r\n".encode())
    size = max(1, -(-len(said.body) // said.pieces))
    for at in range(0, len(said.body), size):
        piece = said.body[at : at + size]
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        await writer.drain()
        await asyncio.sleep(0)
    if said.ending == "chunked":
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    if said.ending == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _error(status: int) -> Said:
    return Said(b'{"error":{"message":"no"}}', JSON, "sized", status=status)
