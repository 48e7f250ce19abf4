"""stable-diffusion.cpp's sd-server, from its recorded answers (`data/sdserver.json`) and source.

    python -m tests.sim.sdserver --port 0 --token-ms 50

A step is a token. It draws noise, one job at a time, and checks as little as the real one: sizes
are rounded up to 8 ("0x0" is the default), pictures that it cannot read are left out, the seed is
42, and the prompt goes into the PNG. Nothing stops a job that runs; a client that leaves is not
noticed. `native` False: an older server with the OpenAI pages alone.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar

import orjson
from aiohttp import web

from schemas import multipart
from tests.sim.base import Sim, document, main
from tests.sim.sdserver_faults import TypeFault, read_json, typed
from tests.sim.sdserver_pictures import Draw, draw, readable
from tests.sim.sdserver_record import CAPABILITIES, CREATED, Work

_TAG = re.compile(r"<sd_cpp_extra_args>(.*?)</sd_cpp_extra_args>")
_FORMATS = ("png", "jpeg", "webp")
MULTIPLE = 8


class Refused(Exception):
    """A 400 whose error is a mere string."""


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
        raw = await request.read()
        if not raw:
            return document({"error": "empty body"}, 400)
        try:
            asked = read_json(raw)
            ask = Draw(
                prompt=typed(asked, "prompt", str, ""),
                format=typed(asked, "output_format", str, "png"),
            )
            n = max(1, typed(asked, "n", int, 1))
            size = typed(asked, "size", str, "")
            return await self._at_once(ask, n, size, _FORMATS)
        except TypeFault as fault:
            return fault.response()

    async def _edits(self, request: web.Request) -> web.StreamResponse:
        if not request.content_type.startswith("multipart/form-data"):
            return document({"error": "Content-Type must be multipart/form-data"}, 400)
        parts = multipart.parse(await request.read(), request.headers["Content-Type"])
        form = {part.name: part.content.decode() for part in parts if part.filename is None}
        if not form.get("prompt"):
            return document({"error": "prompt required"}, 400)
        files = [part.content for part in parts if part.name == "image[]"]
        files = files or [part.content for part in parts if part.name == "image"][:1]
        if not files:
            return document({"error": "at least one image[] required"}, 400)
        seen = [picture for picture in map(readable, files) if picture is not None]
        size = form.get("size") or (f"{seen[0][0]}x{seen[0][1]}" if seen else "512x512")
        ask = Draw(
            prompt=form["prompt"],
            format=form.get("output_format") or "png",
            images=len(seen),
            mask=any(part.name == "mask" for part in parts),
        )
        n = form.get("n") or "1"
        return await self._at_once(ask, int(n) if n.isdigit() else 1, size, _FORMATS[:2])

    async def _at_once(
        self, ask: Draw, n: int, size: str, formats: tuple[str, ...]
    ) -> web.StreamResponse:
        try:
            self._prepare(ask, size, formats)
        except Refused as fault:
            return document({"error": str(fault)}, 400)
        work = Work("", ask, n)
        await self._start(work)
        if work.images is None:
            return document({"error": work.error}, 500)
        data = [{"b64_json": image} for image in work.images]
        return document({"created": CREATED, "data": data, "output_format": ask.format})

    def _prepare(self, ask: Draw, size: str, formats: tuple[str, ...]) -> None:
        """The checks there are, the size, and the tag. Raises Refused."""
        if not ask.prompt:
            raise Refused("prompt required")
        ask.format = ask.format.lower()
        if ask.format not in formats:
            raise Refused(f"invalid output_format, must be one of [{', '.join(formats)}]")
        default = CAPABILITIES["defaults"]
        ask.width, ask.height = default["width"], default["height"]
        if match := re.fullmatch(r"(-?\d+)x(-?\d+)", size):
            ask.width, ask.height = int(match[1]), int(match[2])
        if tag := _TAG.search(ask.prompt):
            ask.prompt = _TAG.sub("", ask.prompt)
            try:
                self._apply(ask, orjson.loads(tag[1]))
            except (orjson.JSONDecodeError, TypeError):
                raise Refused("invalid sd_cpp_extra_args") from None

    def _apply(self, ask: Draw, own: dict[str, Any]) -> None:
        """Its own fields, of the tag or of its own API."""
        ask.seed = own.get("seed", ask.seed)
        ask.width, ask.height = own.get("width", ask.width), own.get("height", ask.height)
        ask.steps = (own.get("sample_params") or {}).get("sample_steps", ask.steps)
        ask.metadata = own.get("embed_image_metadata", True) or self.leaky
        ask.loras = [lora["path"] for lora in own.get("lora") or ()]

    # Its own API

    async def _img_gen(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if not raw:
            return document({"error": "empty body"}, 400)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as fault:
            return document({"error": "invalid json", "message": str(fault)}, 400)
        pending = [w for w in self.jobs.values() if w.status in ("queued", "generating")]
        if len(pending) >= self.queue:
            return document({"error": "job queue is full"}, 429)
        default = CAPABILITIES["defaults"]
        ask = Draw(prompt=body.get("prompt", ""), width=default["width"], height=default["height"])
        ask.format = body.get("output_format", "png")
        ask.images = len(body.get("ref_images") or ())
        ask.mask = bool(body.get("mask_image"))
        self._apply(ask, body)
        if not ask.prompt or ask.format not in _FORMATS:
            return document({"error": "invalid generation parameters"}, 400)
        work = Work(f"job_6b033e95_{len(self.jobs):08x}", ask, body.get("batch_count", 1))
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
        """Of a running job it waits for the end and then tells that it is complete (measured)."""
        work = self.jobs.get(request.match_info["id"])
        if work is None:
            return document({"error": "job not found"}, 404)
        if work.status == "queued":
            work.status = "cancelled"
            await self.note("cancelled", work.ask.prompt)
        elif work.status == "generating":
            async with self._mutex:
                pass
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
            self.drawn.append(work.ask)
            work.images = [self._picture(work.ask, index) for index in range(work.n)]
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
