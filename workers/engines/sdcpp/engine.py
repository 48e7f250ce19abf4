"""stable-diffusion.cpp's sd-server, as measured on the build of its Python package 0.4.7.

It draws one job at a time and queues the rest without bound, so it has one slot. Jobs go to its own
API if it has one (``/sdcpp/v1/img_gen``, which is then polled), because only there can a waiting
job be cancelled. Nothing stops a running job: `run` keeps its slot until the engine has finished,
even if nobody wants the pictures.

Without a seed sd-server always takes 42, so the worker draws one. sd-server writes the prompt and
the names of its files into each picture: the worker asks it not to, and removes such text.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import orjson

from schemas import multipart, pictures, settings
from schemas.api import endpoints, media, sse
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import Ignored, ServedModel
from schemas.pictures import NoPicture
from workers.engines import digest, identity
from workers.engines.base import EngineFault, Offer, Sink
from workers.engines.http.upstream import Upstream
from workers.engines.openai.refusal import JSON, Refusal, refuse_ignored, translate
from workers.engines.openai.request_body import aside
from workers.engines.sdcpp import request as drawings
from workers.engines.sdcpp import wire
from workers.engines.sdcpp.own_fields import KNOWS
from workers.engines.sdcpp.request import Drawing, Limits

GENERATIONS, EDITS = endpoints.IMAGES.path, endpoints.EDITS.path
MODEL = "sd-cpp-local"
"""The name in the server's own list, whatever model is loaded."""
CHECK_TIMEOUT = 120.0
PROBE_TIMEOUT = 10.0
OUTLAST = 900.0
"""Most seconds that a job which nobody wants, and nothing can stop, keeps its slot."""
_POLL_FIRST, _POLL_MOST = 0.05, 1.0
"""Seconds between two looks at a job: half as much again after each look, up to the maximum."""

_AUTO = ("auto",)


@dataclass(slots=True)
class _Order:
    """A job at the engine; `unwanted` once nobody waits for its answer."""

    drawing: Drawing
    endpoint: str
    sink: Sink | None
    unwanted: bool = False

    def touch(self) -> None:
        if self.sink is not None and not self.unwanted:
            self.sink.touch()


class SdCppEngine:
    kind = "sdcpp"
    ignored_fields: ClassVar[tuple[Ignored, ...]] = (
        Ignored(
            "quality",
            "sd-server draws with the steps it was started with, or with 'steps'",
            unless=("auto", "standard"),
        ),
        Ignored("style", "say it in the prompt", unless=(*_AUTO, "vivid")),
        Ignored("background", "sd-server draws nothing transparent", unless=(*_AUTO, "opaque")),
        Ignored("moderation", "sd-server does not moderate", unless=(*_AUTO, "low")),
        Ignored("input_fidelity", "sd-server has no such thing", unless=("low",)),
        Ignored("partial_images", "sd-server gives no pictures before the last"),
    )
    """As in `OpenAIEngine`."""

    def __init__(self, config: settings.Engine) -> None:
        self.name = config.name
        self._config = config
        self._names = tuple(config.models)
        self._http = Upstream(config.name, config.url, config.api_key.get_secret_value())
        self._native = True
        self._limits = Limits()

    async def open(self) -> None: ...

    async def close(self) -> None:
        await self._http.close()

    async def discover(self) -> Offer:
        """One slot. ``/sdcpp/v1/capabilities`` tells the limits and the model's file name."""
        await self._http.json("/v1/models")
        told = await self._capabilities()
        self._native = told is not None
        features: tuple[str, ...] = ("images", "edits")
        stem = MODEL
        if told is not None:
            try:
                self._limits = wire.limits(told)
                stem = str(told["model"]["stem"])
                can = told.get("features") or {}
                modes = told.get("supported_modes") or ["img_gen"]
            except (AttributeError, KeyError, TypeError, ValueError):
                why = f"{self.name} does not answer like sd-server: is the URL right?"
                raise EngineFault(why, away=True) from None
            if "img_gen" not in modes:
                raise EngineFault(f"{self.name} has a model that draws no pictures", away=True)
            # A model that takes no pictures makes no edits.
            features = features if can.get("ref_images", True) else features[:1]
        weights = await digest.find(self._config)
        models = tuple(
            ServedModel(
                *(name, self.name, self.kind, 1, 0, ("image",)),
                *(features, self.ignored_fields, KNOWS, weights),
            )
            for name in self._names or (stem,)
        )
        return Offer(1, models)

    async def check(self) -> None:
        """Draw the smallest picture in one step (measured: 0.5 s on two cores)."""
        least = self._limits.least
        one: dict[str, Any] = {"sample_params": {"sample_steps": 1}}
        small = Drawing("a grey square", width=least, height=least, own=one)
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._draw(_Order(small, GENERATIONS, None))
        except Refusal as fault:
            why = f"{self.name} refused a small job: {fault.message}"
            raise EngineFault(why, away=True) from None
        except TimeoutError:
            why = f"{self.name} did not finish a small job in {CHECK_TIMEOUT:.0f} s"
            raise EngineFault(why, away=True) from None

    async def probe(self) -> bool:
        """Ask for the models: it has no health page (404), and answers this during a job, too."""
        await self._http.json("/v1/models", PROBE_TIMEOUT)
        return True

    async def said_kind(self) -> str:
        return await identity.ask(self._http)

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        began = time.monotonic()
        try:
            drawing = await aside(body, partial(self._read, job, body))
            order = _Order(drawing, job.endpoint, sink)
            images = await self._draw_to_the_end(order)
        except Refusal as refusal:
            return refusal.answer(sink)
        if job.stream:
            sink.start(200, sse.CONTENT_TYPE)
            sink.data(_events(job.endpoint, order.drawing, images))
        else:
            sink.start(200, JSON)
            sink.data(_document(order.drawing, images))
        await sink.settle()
        return End(-1, -1, -1, round((time.monotonic() - began) * 1000), images=len(images))

    def _read(self, job: Job, body: bytes) -> Drawing:
        if job.endpoint == GENERATIONS:
            drawing, fields = drawings.read_generation(body, self._limits)
        elif job.endpoint == EDITS:
            drawing, fields = drawings.read_edit(body, job.content_type, self._limits)
        else:
            what = f"The model {job.model!r} has no {job.endpoint}: it draws pictures."
            raise Refusal(what, param="model", code="unsupported_endpoint")
        if not job.lenient:
            found = (each for each in self.ignored_fields if each.wanted(fields))
            refuse_ignored(self.name, found, endpoints.WORDS[job.endpoint])
        return drawing

    async def _draw_to_the_end(self, order: _Order) -> list[bytes]:
        """Draw; if cancelled, wait all the same until the engine is free again."""
        work = asyncio.create_task(self._draw(order))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            order.unwanted = True
            await asyncio.wait({work}, timeout=OUTLAST)
            raise
        finally:
            if not work.done():
                work.cancel()
            elif not work.cancelled():
                work.exception()  # else asyncio logs that nobody retrieved it

    async def _draw(self, order: _Order) -> list[bytes]:
        """The pictures, without any text in the files. Raises Refusal, EngineFault."""
        try:
            found = await (self._draw_native(order) if self._native else self._draw_at_once(order))
            drawn = [pictures.bare(b64decode(image, validate=True)) for image in found]
        except NoPicture as fault:
            why = f"{self.name} drew something that is no picture: it {fault}"
            raise EngineFault(why) from None
        except (AttributeError, KeyError, ValueError, TypeError):
            raise EngineFault(f"{self.name} does not answer like sd-server", away=True) from None
        if not drawn:
            raise EngineFault(f"{self.name} drew nothing")
        return drawn

    async def _draw_native(self, order: _Order) -> list[str]:
        asked = orjson.dumps(wire.native(order.drawing))
        status, answer = await self._http.ask("POST", "/sdcpp/v1/img_gen", None, asked, JSON)
        if status != 202:
            raise self._refused(status, answer)
        path = "/sdcpp/v1/jobs/" + str(orjson.loads(answer)["id"])
        pause = _POLL_FIRST
        while True:
            state = await self._http.json(path, PROBE_TIMEOUT)
            order.touch()
            match state.get("status"):
                case "completed":
                    return [str(image["b64_json"]) for image in state["result"]["images"]]
                # The next look finds it cancelled, or begun meanwhile.
                case "queued" if order.unwanted:
                    await self._http.ask("POST", path + "/cancel", None, b"")
                case "queued" | "generating":
                    await asyncio.sleep(pause)
                    pause = min(_POLL_MOST, pause * 1.5)
                case other:
                    told = (state.get("error") or {}).get("message") or other
                    raise EngineFault(f"{self.name} did not draw: {told}")

    async def _draw_at_once(self, order: _Order) -> list[str]:
        """Draw by its OpenAI pages, for a server without an API of its own."""
        if order.endpoint == EDITS:
            body, content_type = multipart.encode(wire.form(order.drawing))
        else:
            body, content_type = orjson.dumps(wire.plain(order.drawing)), JSON
        status, answer = await self._http.ask("POST", order.endpoint, None, body, content_type)
        if status != 200:
            raise self._refused(status, answer)
        found = orjson.loads(answer)
        if error := media.API.failure(found):
            raise EngineFault(f"{self.name}: {error.get('message') or error}")
        return [str(image["b64_json"]) for image in found["data"]]

    async def _capabilities(self) -> dict[str, Any] | None:
        """What the server can do; None if it has no API of its own."""
        status, page = await self._http.ask("GET", "/sdcpp/v1/capabilities", PROBE_TIMEOUT)
        if status == 404:
            return None
        try:
            return dict(orjson.loads(page))
        except (orjson.JSONDecodeError, TypeError, ValueError):
            raise EngineFault(f"{self.name} does not tell its capabilities", away=True) from None

    def _refused(self, status: int, answer: bytes) -> Exception:
        """What to raise. sd-server answers 500 to faulty requests, too; `_read` refuses those."""
        refusal = translate(status, answer)
        if status < 400 or status >= 500 or status == 429:
            return EngineFault(f"{self.name}: {refusal.message}")
        return refusal


_NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""The usage that each last event of a stream of pictures has: sd-server knows no tokens."""


def _events(endpoint: str, drawing: Drawing, images: list[bytes]) -> bytes:
    """The last event of OpenAI's streams, for each picture."""
    kind = "image_edit" if endpoint == EDITS else "image_generation"
    about = {"created_at": int(time.time()), "background": "opaque", "quality": "auto"}
    about["usage"] = _NO_TOKENS
    return b"".join(
        sse.dump(
            {
                "type": f"{kind}.completed",
                "b64_json": b64encode(image).decode(),
                "output_format": drawing.format,
                "size": _size(image),
                **about,
            },
            named=True,
        )
        for image in images
    )


def _size(image: bytes) -> str:
    found = pictures.inspect(image)
    return f"{found.width}x{found.height}"


def _document(drawing: Drawing, images: list[bytes]) -> bytes:
    """OpenAI's document, with the real size and the seed of the first picture."""
    return orjson.dumps(
        {
            "created": int(time.time()),
            "data": [{"b64_json": b64encode(image).decode()} for image in images],
            "output_format": drawing.format,
            "size": _size(images[0]) if images else None,
            "seed": drawing.seed,
        }
    )
