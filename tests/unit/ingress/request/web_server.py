"""A web server here whose pages do what pages should not, and a resolver of its names."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

OUTSIDE = "127.0.0.2"
"""Stands for a public address in tests."""
INSIDE = "127.0.0.1"


def png(width: int = 2, height: int = 2) -> bytes:
    """A grey picture, whole and valid unless it claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + b"\x80" * (3 * min(width, 64)) for _ in range(min(height, 64)))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


class FakeResolver(AbstractResolver):
    """`known`: the addresses of each name; a list of lists is gone through, one each time."""

    def __init__(self, **known: list[str] | list[list[str]]) -> None:
        self.known = {name.replace("_", "."): list(found) for name, found in known.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        found: list[Any] = self.known.get(host, [])
        if not found:
            raise OSError("no such name")
        if isinstance(found[0], list):
            found = found[0] if len(found) == 1 else found.pop(0)
        return [_result(host, str(address), port) for address in found]

    async def close(self) -> None: ...


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=flags
    )


class WebServer:
    """`asked`: the paths that came, with their Host. `port`: of both addresses."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.content = png()
        self.held = asyncio.Event()
        self.left = asyncio.Event()
        self.targets: dict[str, str] = {}
        self._came = asyncio.Condition()

    def url(self, host: str, path: str = "/picture.png") -> str:
        return f"http://{host}:{self.port}{path}"

    async def page(self, request: web.Request) -> web.StreamResponse:
        async with self._came:
            self.asked.append((request.headers["Host"].partition(":")[0], request.path))
            self.headers.append(dict(request.headers))
            self._came.notify_all()
        match request.path:
            case "/picture.png":
                return web.Response(body=self.content, content_type="image/png")
            case "/html":
                return web.Response(body=self.content, content_type="text/html")
            case "/gzip":
                packed = {"Content-Encoding": "gzip", "Content-Type": "image/png"}
                return web.Response(body=self.content, headers=packed)
            case "/loop":
                return web.Response(status=302, headers={"Location": "/loop"})
            case "/nowhere":
                return web.Response(status=302)
            case "/endless":
                return await self._endless(request)
            case "/silent":
                return await self._silent()
            case "/cookie":
                headers = {"Set-Cookie": "a=b", "Location": "/picture.png"}
                return web.Response(status=302, headers=headers)
        if request.path in self.targets:
            return web.Response(status=307, headers={"Location": self.targets[request.path]})
        return web.Response(status=404)

    async def until(self, path: str) -> None:
        """Wait for somebody to ask for `path`."""
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(lambda: any(asked == path for _, asked in self.asked))

    async def _silent(self) -> web.StreamResponse:
        try:
            await self.held.wait()
        finally:
            self.left.set()
        return web.Response()

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65_536))
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise


@asynccontextmanager
async def web_server() -> AsyncIterator[WebServer]:
    """On the same port of both addresses."""
    server = WebServer()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", server.page)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        outside, inside = _sockets()
        await web.SockSite(runner, outside).start()
        await web.SockSite(runner, inside).start()
        server.port = outside.getsockname()[1]
        yield server
    finally:
        server.held.set()
        await runner.cleanup()


def _sockets() -> tuple[socket.socket, socket.socket]:
    """Bound to one port of both addresses. A port that is free at one may be taken at the other."""
    while True:
        outside, inside = socket.socket(), socket.socket()
        outside.bind((OUTSIDE, 0))
        with suppress(OSError):
            inside.bind((INSIDE, outside.getsockname()[1]))
            return outside, inside
        outside.close()
        inside.close()
