"""Transcriptions of servers that are like OpenAI's, streamed or not as they like."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from schemas import multipart
from schemas.multipart import Part
from tests.doubles.drive import JSON, RecordingSink, config, job, opened
from workers.engines.base import EngineFault
from workers.engines.openai.engine import OpenAIEngine

PATH = "/v1/audio/transcriptions"
PARTS = [Part("file", b"\0sound\xff", "a.wav", "audio/wav"), Part("stream", b"true")]
DONE = b'data: {"type":"transcript.text.done","text":"hi"}\n\n'


@asynccontextmanager
async def hearing(body: bytes, content_type: str) -> AsyncIterator[OpenAIEngine]:
    """An engine with one model, that answers each recording with this."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "ears"}]})

    async def hear(request: web.Request) -> web.Response:
        if not request.content_type.startswith("multipart/"):
            return web.json_response({"error": {"message": "a form is needed"}}, status=400)
        return web.Response(body=body, headers={"content-type": content_type})

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post(PATH, hear)])
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(TestServer(app))
        made = OpenAIEngine(config("openai", str(server.make_url("/"))))
        yield await stack.enter_async_context(opened(made))


async def heard(engine: OpenAIEngine, *more: Part) -> RecordingSink:
    body, content_type = multipart.encode([*PARTS[:1], *more])
    sink = RecordingSink()
    await engine.run(job("ears", PATH, content_type=content_type), body, sink)
    return sink


async def streamed(engine: OpenAIEngine) -> tuple[RecordingSink, int | None]:
    body, content_type = multipart.encode(PARTS)
    sink = RecordingSink()
    end = await engine.run(job("ears", PATH, stream=True, content_type=content_type), body, sink)
    return sink, end.completion_tokens


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"text":"hi there"}', "application/json"),
        (b'{"text":"hi there","segments":[]}', "application/json; charset=utf-8"),
        (b"hi there\n", "text/plain; charset=utf-8"),
    ],
)
async def test_one_document_becomes_the_events_of_a_stream(body: bytes, content_type: str) -> None:
    async with hearing(body, content_type) as engine:
        sink, _ = await streamed(engine)
    assert (sink.status, sink.content_type) == (200, "text/event-stream")
    assert sink.events == [
        {"type": "transcript.text.delta", "delta": "hi there"},
        {"type": "transcript.text.done", "text": "hi there"},
    ]


async def test_what_it_cost_is_told_as_it_said() -> None:
    usage = b'{"type":"tokens","input_tokens":9,"output_tokens":2,"total_tokens":11}'
    async with hearing(b'{"text":"","usage":%b}' % usage, "application/json") as engine:
        sink, tokens = await streamed(engine)
    (done,) = sink.events
    assert (done["text"], done["usage"]["input_tokens"], tokens) == ("", 9, 2)


async def test_a_stream_passes_as_it_is() -> None:
    async with hearing(DONE, "text/event-stream") as engine:
        sink, _ = await streamed(engine)
    assert sink.body == DONE


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"{", JSON, "no JSON: {"),
        (b"[]", JSON, "no answer"),
        (b'{"text":5}', JSON, "without 'text'"),
        (b'{"error":{"message":"deaf"}}', JSON, "e: deaf"),
        (b'{"error":"deaf"}', "text/plain", "e: deaf"),
        (b"<html>gone</html>", "text/html", "gone"),
        (b"", JSON, "its answer is empty"),
    ],
)
async def test_what_is_no_transcription_is_a_fault(
    body: bytes, content_type: str, said: str, stream: bool
) -> None:
    async with hearing(body, content_type) as engine:
        with pytest.raises(EngineFault, match=said):
            await (streamed(engine) if stream else heard(engine))


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
async def test_a_text_passes_where_a_text_is_asked_for(form: str) -> None:
    asked = Part("response_format", form.encode())
    async with hearing(b"1\n00:00\n", "text/plain") as engine:
        assert (await heard(engine, asked)).body == b"1\n00:00\n"
        with pytest.raises(EngineFault, match="no JSON: 1"):
            await heard(engine)
    async with hearing(b"<!DOCTYPE html><p>gone", "text/plain") as engine:
        with pytest.raises(EngineFault, match="sent a page"):
            await heard(engine, asked)
