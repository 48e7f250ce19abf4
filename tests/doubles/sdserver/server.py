"""stable-diffusion.cpp's sd-server, from its recorded answers (`data/sdserver.json`) and source.

    python -m tests.doubles.sdserver.server --port 0 --token-ms 50

A step is a token. It draws noise, one job at a time, and checks as little as the real one: sizes
are rounded up to 8 ("0x0" is the default), pictures that it cannot read are left out, the seed is
42, and the prompt goes into the PNG. Nothing stops a job that runs; a client that leaves is not
noticed. `native` False: an older server with the OpenAI pages alone.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from aiohttp import web

from schemas import multipart
from tests.doubles.base import Sim, document, main
from tests.doubles.sdserver import requests
from tests.doubles.sdserver.faults import ParseFault, Refused
from tests.doubles.sdserver.pictures import Draw, draw
from tests.doubles.sdserver.record import CAPABILITIES, CREATED, Work

MULTIPLE = 8


class SdServer(Sim):
    """`encoder` False: started without a text encoder, it dies of the first job. `leaky`: it
    passes over `embed_image_metadata`. `drawn`: the jobs that it really drew."""

    patient: ClassVar[bool] = True
    headers: ClassVar = {
        "Access-Control-Allow-Methods": "*",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Headers": "*",
        "Access-Control-Allow-Origin": "*",
    }

    def __init__(
        self, *, native: bool = True, encoder: bool = True, leaky: bool = False, queue: int = 64
    ) -> None:
        super().__init__()
        self.native = native
        self.encoder = encoder
        self.leaky = leaky
        self.queue = queue
        self.drawn: list[Draw] = []
        self.jobs: dict[str, Work] = {}
        self._mutex = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        own = [
            web.get("/sdcpp/v1/capabilities", self._capabilities),
            web.post("/sdcpp/v1/img_gen", self._img_gen),
            web.post("/sdcpp/v1/vid_gen", self._vid_gen),
            web.get("/sdcpp/v1/jobs/{id}", self._job),
            web.post("/sdcpp/v1/jobs/{id}/cancel", self._cancel),
        ]
        return [
            web.get("/", self._root),
            web.get("/v1/models", self._models),
            web.post("/v1/images/generations", self._generations),
            web.post("/v1/images/edits", self._edits),
            *(own if self.native else []),
        ]

    def missing(self, fault: web.HTTPException) -> web.Response:
        return web.Response(status=404)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await super().stop()

    async def _root(self, request: web.Request) -> web.Response:
        return document(b"Stable Diffusion Server is running", 200, "text/html")

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": "sd-cpp-local", "object": "model", "owned_by": "local"}
        return document({"data": [model]})

    async def _capabilities(self, request: web.Request) -> web.Response:
        return document(CAPABILITIES)

    # OpenAI's pages: answered when drawn

    async def _generations(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._at_once(requests.generation(await request.read()))
        except Refused as fault:
            return fault.response()

    async def _edits(self, request: web.Request) -> web.StreamResponse:
        if not request.content_type.startswith("multipart/form-data"):
            return document({"error": "Content-Type must be multipart/form-data"}, 400)
        parts = multipart.parse(await request.read(), request.headers["Content-Type"])
        try:
            return await self._at_once(requests.edit(parts))
        except Refused as fault:
            return fault.response()

    async def _at_once(self, ask: Draw) -> web.StreamResponse:
        work = Work("", ask)
        await self._start(work)
        if work.images is None:
            return document({"error": work.error}, 500)
        data = [{"b64_json": image} for image in work.images]
        return document({"created": CREATED, "data": data, "output_format": ask.format})

    # Its own API

    async def _img_gen(self, request: web.Request) -> web.StreamResponse:
        try:
            ask = requests.native(await request.read())
        except ParseFault as fault:
            return document({"error": "invalid json", "message": str(fault)}, 400)
        except Refused as fault:
            return fault.response()
        pending = [w for w in self.jobs.values() if w.status in ("queued", "generating")]
        if len(pending) >= self.queue:
            return document({"error": "job queue is full"}, 429)
        work = Work(f"job_6b033e95_{len(self.jobs):08x}", ask)
        self.jobs[work.id] = work
        self._start(work)
        told = {"created": CREATED, "id": work.id, "kind": "img_gen"}
        where = f"/sdcpp/v1/jobs/{work.id}"
        return document({**told, "poll_url": where, "status": "queued"}, 202)

    async def _vid_gen(self, request: web.Request) -> web.StreamResponse:
        return document({"error": "loaded model does not support vid_gen"}, 400)

    async def _job(self, request: web.Request) -> web.StreamResponse:
        work = self.jobs.get(request.match_info["id"])
        if work is None:
            return document({"error": "job not found"}, 404)
        return document(work.page(self._position(work)))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        """Only of a job that waits: nothing stops one that runs (409)."""
        work = self.jobs.get(request.match_info["id"])
        if work is None:
            return document({"error": "job not found"}, 404)
        if work.status == "generating":
            why = "job is currently generating and cannot be interrupted yet"
            return document({"error": why}, 409)
        if work.status == "queued":
            work.status = "cancelled"
            await self.note("cancelled", work.ask.prompt)
        return document(work.page(0))

    def _position(self, work: Work) -> int:
        queued = [w for w in self.jobs.values() if w.status == "queued"]
        return queued.index(work) + 1 if work in queued else 0

    # Drawing

    def _start(self, work: Work) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, work: Work) -> None:
        async with self._mutex:
            if work.status == "cancelled":
                return
            work.status = "generating"
            await self.note("started", work.ask.prompt)
            if not self.encoder:
                self._die()
                return
            for step in range(work.ask.steps):
                if not await self.tick(step):
                    work.status, work.error = "failed", "generate_image returned no results"
                    return
            work.ask.metadata = work.ask.metadata or self.leaky
            self.drawn.append(work.ask)
            work.images = [self._picture(work.ask, index) for index in range(work.ask.n)]
            work.status = "completed"
        await self.note("finished", work.ask.prompt)

    def _picture(self, ask: Draw, index: int) -> str:
        default = CAPABILITIES["defaults"]
        width = ask.width if ask.width > 0 else max(512, default["width"])
        height = ask.height if ask.height > 0 else max(512, default["height"])
        aligned = (-(-width // MULTIPLE) * MULTIPLE, -(-height // MULTIPLE) * MULTIPLE)
        return draw(ask, *aligned, ask.seed + index)

    def _die(self) -> None:
        """As of a crash: all connections drop, and nobody listens any more."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            task = asyncio.create_task(site.stop())
            self._tasks.add(task)
        server = self._runner.server
        assert server is not None
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()


if __name__ == "__main__":
    main(SdServer())
