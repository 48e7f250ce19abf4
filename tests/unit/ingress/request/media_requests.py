"""A `Media` with a made-up web, and requests for it."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from ingress.http.held import Bodies, Held
from ingress.models.catalog import Catalog
from ingress.request.fetch import Fetched, Fetcher, FetchError
from ingress.request.media import Media
from schemas import settings
from schemas.api.endpoints import CHAT, Endpoint
from schemas.errors import HeadraceError
from schemas.nodes import ServedModel
from tests.unit import fakes
from tests.unit.ingress.request.web_server import png

PICTURE = base64.b64encode(png()).decode()
DATA_URL = f"data:image/png;base64,{PICTURE}"
WAV = base64.b64encode(b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)).decode()
MP3 = base64.b64encode(b"\xff\xfb\x90\x64" + bytes(40)).decode()
URL = "https://pictures.example/a.jpg"


class FakeFetcher(Fetcher):
    """`pages`: what lies where; a message where it is a str."""

    def __init__(self, **pages: bytes | str) -> None:
        self.pages: dict[str, bytes | str] = {URL: png(), **pages}
        self.asked: list[tuple[str, str]] = []
        self.held: asyncio.Event | None = None
        self.cancelled = 0
        self.begun = asyncio.Event()

    async def get(self, url: str, kind: str, held: Held) -> Fetched:
        self.asked.append((url, kind))
        self.begun.set()
        if self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        page = self.pages[url]
        if isinstance(page, str):
            raise FetchError(page)
        return Fetched(page, "image/whatever")

    async def close(self) -> None: ...


def request() -> Request:
    made = Request({"type": "http", "headers": [], "state": {}})
    Bodies(settings.Ingress()).hold(made, "k")
    return made


def catalog(*modalities: str, kind: str = "llamacpp") -> Catalog:
    found = Catalog(lambda: 0.0)
    models = (
        ServedModel("m", "e", kind, 4, 0, ("text", *modalities)),
        ServedModel("seer", "e", kind, 4, 0, ("text", "vision")),
    )
    found.hear(fakes.card(engines=(), models=models))
    return found


def media(web: FakeFetcher | None = None, known: Catalog | None = None, **config: Any) -> Media:
    chosen = known or catalog("vision", "audio")
    return Media(settings.Ingress(**config), chosen, web or FakeFetcher())


async def resolve(
    document: dict[str, Any], web: FakeFetcher | None = None, endpoint: Endpoint = CHAT, **more: Any
) -> bytes:
    body = orjson.dumps(document)
    made = media(web, **more)
    return await made.resolve(request(), endpoint, orjson.loads(body), body, "m")


async def fault(document: dict[str, Any], *given: Any, **more: Any) -> HeadraceError:
    with pytest.raises(HeadraceError) as found:
        await resolve(document, *given, **more)
    return found.value


def chat(*parts: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "text", "text": "What is this?"}
    return {"model": "m", "messages": [{"role": "user", "content": [text, *parts]}], "top_k": 1}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def sound(data: str, kind: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


AT = "messages[0].content[1]"
