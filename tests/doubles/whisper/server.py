"""whisper-server 1.8.5 on the wire: its pages, headers, errors and its one job at a time.

It hears nothing: each job gets `answer`, which is a captured one unless a test sets another.
As a server that was started without ``--vad-model``, it fails at jobs with `vad`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from schemas import multipart
from schemas.multipart import Part

HEADERS = {"Server": "whisper.cpp", "Access-Control-Allow-Origin": "*"}
SPEECH = Path(__file__).with_name("words.json")
SILENCE = b'{"task":"transcribe","language":"english","duration":1.0,"text":"","segments":[]}'


class WhisperSim:
    """`jobs`: the forms that came, by name. `open`: cleared, jobs do not end. `left`: set when a
    client went away from one. `path`: as of ``--inference-path``. `vad`: as started with
    ``--vad-model``."""

    def __init__(self, path: str = "/inference", server: str = "whisper.cpp") -> None:
        self.url = ""
        self.path = path
        self.status, self.answer = 200, SPEECH.read_bytes()
        self.loading = False
        self.vad = False
        self.jobs: list[dict[str, Part]] = []
        self.came = asyncio.Event()
        self.left = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self._headers = {**HEADERS, "Server": server}
        self._mutex = asyncio.Lock()

    async def page(self, request: web.Request) -> web.Response:
        match request.method, request.path:
            case "GET", "/health":
                return self._health()
            case "OPTIONS", self.path:
                return self._reply(200, b"", "")
            case "POST", self.path:
                return await self._job(request)
        missing = f"File Not Found ({request.path})".encode()
        return self._reply(404, missing, "text/plain")

    def _health(self) -> web.Response:
        if self.loading:
            return self._reply(503, b'{"status":"loading model"}', "application/json")
        return self._reply(200, b'{"status":"ok"}', "application/json")

    async def _job(self, request: web.Request) -> web.Response:
        body = await request.read()
        parts = multipart.parse(body, request.headers["Content-Type"])
        self.jobs.append({part.name: part for part in parts})
        self.came.set()
        try:
            async with self._mutex:
                await self.open.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        if not self.vad and self.jobs[-1].get("vad") == Part("vad", b"true"):
            return self._reply(500, b'{"error":"failed to process audio"}', "application/json")
        if self.status == 400:
            return self._reply(400, b"Invalid request", "text/plain")
        return self._reply(self.status, self.answer, "application/json")

    def _reply(self, status: int, body: bytes, content_type: str) -> web.Response:
        headers = {**self._headers, "Content-Type": content_type} if content_type else self._headers
        return web.Response(status=status, body=body, headers=headers)


@asynccontextmanager
async def whisper_sim(
    path: str = "/inference", server: str = "whisper.cpp"
) -> AsyncIterator[WhisperSim]:
    sim = WhisperSim(path, server)
    app = web.Application(client_max_size=2**27)
    app.router.add_route("*", "/{any:.*}", sim.page)
    # A client that goes away ends its handler, as the real server's abort callback does.
    http = TestServer(app, handler_cancellation=True)
    await http.start_server()
    sim.url = str(http.make_url("")).rstrip("/")
    try:
        yield sim
    finally:
        sim.open.set()
        await http.close()
