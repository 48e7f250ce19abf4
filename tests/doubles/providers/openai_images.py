"""OpenAI's images: generations and edits, with what each model family takes and gives."""

from __future__ import annotations

import base64
import random
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.doubles.base import sse
from tests.doubles.providers import words
from tests.doubles.providers.base import EXCHANGE, FAULT
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece, send
from tests.doubles.sdserver.pictures import png

if TYPE_CHECKING:
    from tests.doubles.providers.openai import OpenAI

MODELS = (
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-image-1.5",
    "gpt-image-2",
    "dall-e-3",
    "dall-e-2",
)
SIZES = {
    "gpt": ("1024x1024", "1024x1536", "1536x1024", "auto"),
    "dall-e-3": ("1024x1024", "1024x1792", "1792x1024"),
    "dall-e-2": ("256x256", "512x512", "1024x1024"),
}
TOKENS = {
    "1024x1024": {"low": 272, "medium": 1056, "high": 4160},
    "1024x1536": {"low": 408, "medium": 1584, "high": 6240},
    "1536x1024": {"low": 400, "medium": 1568, "high": 6208},
}
"""Output tokens of a picture of gpt-image-1 (platform.openai.com/docs/guides/image-generation);
its successors count the same here."""
PARTIAL = 100
"""Of one that is shown before it is finished."""
PICTURES = "/pictures/"
"""Where a picture's `url` leads; it takes no key, like the real one."""


def routes(sim: OpenAI) -> list[web.RouteDef]:
    made = _Images(sim)
    return [
        web.post(f"{sim.prefix}/images/generations", made.generations),
        web.post(f"{sim.prefix}/images/edits", made.edits),
        web.get(PICTURES + "{name}", made.picture),
    ]


@lru_cache(maxsize=64)
def picture(prompt: str, number: int, size: str) -> bytes:
    """A PNG that its prompt decides."""
    width, height = map(int, size.split("x"))
    return png(width, height, random.Random(f"{prompt} {number}").randbytes(3 * width))


class _Images:
    def __init__(self, sim: OpenAI) -> None:
        self._sim = sim
        self._kept: dict[str, bytes] = {}

    async def generations(self, request: web.Request) -> web.StreamResponse:
        asked = request[EXCHANGE].body
        if not isinstance(asked, dict) or not asked.get("prompt"):
            raise Refused(400, "Missing required parameter: 'prompt'.", param="prompt")
        return await self._draw(request, asked, 0, "image_generation")

    async def edits(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        given = [f for name in ("image", "image[]") for f in exchange.files.get(name, ())]
        if not given:
            raise Refused(400, "Missing required parameter: 'image'.", param="image")
        return await self._draw(request, exchange.body, len(given), "image_edit")

    async def picture(self, request: web.Request) -> web.Response:
        found = self._kept.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found, content_type="image/png")

    async def _draw(
        self, request: web.Request, asked: dict[str, Any], given: int, event: str
    ) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        exchange.model = exchange.model or "dall-e-2"
        self._check(exchange.model, asked)
        prompt = len(str(asked["prompt"]).split()) + words.PICTURE * given
        self._sim.admit_tokens(exchange.model, prompt)
        drawn = _Drawn(exchange.model, asked, prompt, words.PICTURE * given, event)
        drawn.metered = request[FAULT].metered
        if not drawn.gpt:
            return await send(self._sim, request, self._old(drawn), prompt)
        return await send(self._sim, request, drawn.flow(exchange.stream), prompt)

    def _check(self, model: str, asked: dict[str, Any]) -> None:
        family = "gpt" if model.startswith("gpt") else model
        size, sizes = asked.get("size"), SIZES.get(family, ())
        if size is not None and sizes and size not in sizes:
            told = f"Invalid value: '{size}'. Supported values are: "
            raise Refused(
                400, told + ", ".join(map(repr, sizes)) + ".", code="invalid_value", param="size"
            )
        if family == "gpt" and "response_format" in asked:
            told = "Unknown parameter: 'response_format'."
            raise Refused(400, told, code="unknown_parameter", param="response_format")
        if family == "dall-e-3" and int(asked.get("n") or 1) != 1:
            told = "You must provide n=1 for this model."
            raise Refused(400, told, code="invalid_value", param="n")

    def _old(self, drawn: _Drawn) -> Flow:
        """DALL·E: URLs unless base64 is asked for, and no usage."""
        packed = drawn.asked.get("response_format") == "b64_json"
        data = []
        for at in range(drawn.n):
            raw = picture(drawn.prompt, at, drawn.size)
            name = f"img-{abs(hash((drawn.prompt, at, drawn.size))):x}.png"
            self._kept[name] = raw
            where = f"{self._sim.url}{PICTURES}{name}"
            one = {"b64_json": base64.b64encode(raw).decode()} if packed else {"url": where}
            revised = {"revised_prompt": drawn.prompt} if drawn.model == "dall-e-3" else {}
            data.append({**revised, **one})
        found = {"created": int(time.time()), "data": data}
        pieces = [Piece(0, "", steps=1, images=1) for _ in data]
        return Flow(pieces, whole=lambda: found)


class _Drawn:
    """One request for pictures."""

    metered = True

    def __init__(
        self, model: str, asked: dict[str, Any], tokens: int, given: int, event: str
    ) -> None:
        self.model, self.asked, self.event = model, asked, event
        self.gpt = model.startswith("gpt")
        self.prompt = str(asked["prompt"])
        self.n = int(asked.get("n") or 1)
        wished = asked.get("size")
        self.size = wished if wished and wished != "auto" else "1024x1024"
        quality = asked.get("quality")
        self.quality = quality if quality in ("low", "medium", "high") else "medium"
        self.input, self.given = tokens, given

    def flow(self, stream: bool) -> Flow:
        each = TOKENS.get(self.size, TOKENS["1024x1024"])[self.quality]
        if not stream:
            pieces = [Piece(each, "", steps=1, images=1) for _ in range(self.n)]
            return Flow(pieces, whole=lambda: self._document(each))
        partial = int(self.asked.get("partial_images") or 0)
        pieces = [
            Piece(PARTIAL, "", self._event("partial_image", 0, partial_image_index=at), 1)
            for at in range(partial)
        ]
        for at in range(self.n):
            drawn = each + PARTIAL * partial if at == 0 else each
            usage = {"usage": self._usage(drawn)} if self.metered else {}
            raw = self._event("completed", at, **usage)
            pieces.append(Piece(each, "", raw, 1, images=1))
        return Flow(pieces, error=_error)

    def _look(self) -> dict[str, Any]:
        wished = self.asked.get("output_format") or "png"
        return {
            "size": self.size,
            "quality": self.quality,
            "background": self.asked.get("background") or "opaque",
            "output_format": wished,
        }

    def _event(self, what: str, number: int, **more: Any) -> bytes:
        kind = f"{self.event}.{what}"
        raw = base64.b64encode(picture(self.prompt, number, self.size)).decode()
        told = {"type": kind, "b64_json": raw, "created_at": int(time.time())}
        return sse({**told, **self._look(), **more}, kind)

    def _usage(self, each: int, n: int = 1) -> dict[str, Any]:
        text = self.input - self.given
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"image_tokens": self.given, "text_tokens": text},
            "output_tokens": each * n,
            "output_tokens_details": {"image_tokens": each * n, "text_tokens": 0},
            "total_tokens": self.input + each * n,
        }

    def _document(self, each: int) -> dict[str, Any]:
        raws = [picture(self.prompt, at, self.size) for at in range(self.n)]
        data = [{"b64_json": base64.b64encode(raw).decode()} for raw in raws]
        found = {"created": int(time.time()), **self._look(), "data": data}
        return {**found, "usage": self._usage(each, self.n)} if self.metered else found


def _error(refused: Refused) -> bytes:
    told = {"type": "image_generation_server_error", "code": refused.code or "server_error"}
    return sse({"type": "error", "error": {**told, "message": "An error occurred."}}, "error")
