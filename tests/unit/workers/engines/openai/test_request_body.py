"""Forms to servers that are like OpenAI's: what they hear is called as they call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from schemas import multipart
from schemas.multipart import Part
from tests.doubles.drive import RecordingSink, config, job, opened
from workers.engines.openai.engine import OpenAIEngine
from workers.engines.openai.refusal import Refusal
from workers.engines.openai.request_body import name_form

PATH = "/v1/audio/transcriptions"
FILE = Part("file", b"\0sound\xff", "a.wav", "audio/wav")


def form(*parts: Part) -> tuple[bytes, str]:
    return multipart.encode([*parts, FILE])


@pytest.mark.parametrize("before", [(), (Part("model", b"alias"),), (Part("model", b"a"),) * 2])
def test_the_name_is_the_engines(before: tuple[Part, ...]) -> None:
    language = Part("language", b"en")
    body, kind = name_form(*form(*before, language), "own")
    assert multipart.parse(body, kind) == [language, FILE, Part("model", b"own")]


def test_a_form_that_has_it_is_the_very_same() -> None:
    body, kind = form(Part("model", b"own"))
    assert name_form(body, kind, "own") == (body, kind)
    assert name_form(body, kind, "own")[0] is body


@pytest.mark.parametrize("kind", ["multipart/form-data", "text/plain", ""])
def test_what_is_no_form_is_refused(kind: str) -> None:
    with pytest.raises(Refusal) as fault:
        name_form(form()[0], kind, "own")
    assert fault.value.status == 400


@asynccontextmanager
async def listening(heard: list[list[Part]]) -> AsyncIterator[str]:
    """A server with one model that writes down speech."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "large-v3"}]})

    async def hear(request: web.Request) -> web.Response:
        if request.content_type == "application/json":
            return web.json_response({"error": {"message": "no file"}}, status=400)
        heard.append(multipart.parse(await request.read(), request.headers["Content-Type"]))
        return web.Response(text="1\n00:00", content_type="application/x-subrip")

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post(PATH, hear)])
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


async def test_it_goes_through() -> None:
    heard: list[list[Part]] = []
    async with (
        listening(heard) as url,
        opened(OpenAIEngine(config("openai", url, models=["whisper-1"]))) as engine,
    ):
        (model,) = (await engine.discover()).models
        assert (model.id, model.features) == ("whisper-1", ("transcriptions",))
        body, kind = form(Part("model", b"whisper-1"), Part("response_format", b"srt"))
        answer = RecordingSink()
        await engine.run(job("whisper-1", PATH, content_type=kind), body, answer)
    assert (answer.status, answer.content_type) == (200, "application/x-subrip; charset=utf-8")
    assert answer.body == b"1\n00:00"
    assert heard == [[Part("response_format", b"srt"), FILE, Part("model", b"large-v3")]]
