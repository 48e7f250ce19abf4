"""Text to speech through the fabric: the official client, and an engine that makes sounds."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from deploy.nats import broker as brokers
from tests.doubles.base import document, sse
from tests.fabric import Fabric, fabric
from tests.integration.uploads import Answer

SPEECH = "/v1/audio/speech"
SOUND = bytes(range(256)) * 2000
"""Half a megabyte: more than one frame."""
GOOD: dict[str, Any] = {"model": "voice", "input": "Hello.", "voice": "alloy"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


class SpeechServer:
    """An engine with OpenAI's API that only speaks."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []

    async def models(self, request: web.Request) -> web.Response:
        return document({"object": "list", "data": [{"id": "voice", "object": "model"}]})

    async def speak(self, request: web.Request) -> web.StreamResponse:
        asked = orjson.loads(await request.read())
        if not asked.get("input"):
            return document({"error": {"message": "no input", "param": "input"}}, 400)
        if asked["voice"] == "nobody":
            told = {"message": "There is no such voice here.", "param": "voice", "code": "no_voice"}
            return document({"error": told}, 400)
        self.asked.append(asked)
        if asked.get("stream_format") == "sse":
            half = base64.b64encode(b"half").decode()
            pieces = [sse({"type": "speech.audio.delta", "audio": half}) for _ in range(2)]
            done = sse({"type": "speech.audio.done", "usage": {"input_tokens": 3}})
            return document(b"".join(pieces) + done, content_type="text/event-stream")
        return document(SOUND, content_type=f"audio/{asked.get('response_format') or 'mpeg'}")

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.add_routes([web.get("/v1/models", self.models), web.post(SPEECH, self.speak)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def speaking(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Fabric, SpeechServer]]:
    home: Path = tmp_path_factory.mktemp("fabric")
    server = SpeechServer()
    runner = await server.start()
    try:
        with brokers.start(home / "broker", 0, 0) as broker:
            async with fabric(broker, home) as made:
                await made.ingress()
                await made.worker(server.url, kind="openai")
                await made.worker()
                await made.served("echo", "voice")
                yield made, server
    finally:
        await runner.cleanup()


def client(made: Fabric) -> openai.AsyncOpenAI:
    key = made.headers["Authorization"].partition(" ")[2]
    return openai.AsyncOpenAI(base_url=made.url + "/v1", api_key=key, max_retries=0)


async def post(made: Fabric, body: dict[str, Any], path: str = SPEECH) -> Answer:
    async with made.session.post(made.url + path, json=body, headers=made.headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


@pytest.mark.parametrize("format_", [None, "mp3", "opus", "aac", "flac", "wav", "pcm"])
async def test_the_sound_arrives_whole(speaking: tuple[Fabric, SpeechServer], format_: Any) -> None:
    made, server = speaking
    more = {"response_format": format_} if format_ else {}
    async with client(made) as sdk:
        answer = await sdk.audio.speech.create(
            model="voice", input="Hello.", voice="alloy", speed=1.5, instructions="softly", **more
        )
    assert answer.content == SOUND
    assert answer.response.headers["content-type"] == f"audio/{format_ or 'mpeg'}"
    assert answer.response.headers["x-headrace-served-by"].startswith("node:")
    assert answer.response.headers["x-request-id"]
    assert server.asked[-1] == {
        **GOOD,
        "speed": 1.5,
        "instructions": "softly",
        **more,
    }


async def test_the_sound_arrives_in_events(speaking: tuple[Fabric, SpeechServer]) -> None:
    made, _ = speaking
    answer = await post(made, {**GOOD, "stream_format": "sse"}, "/audio/speech")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.body.split(b"\n") if line.startswith(b"data:")]
    events = [orjson.loads(line[5:]) for line in lines]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 2 + ["speech.audio.done"]


async def test_a_model_need_not_be_named(speaking: tuple[Fabric, SpeechServer]) -> None:
    made, _ = speaking
    answer = await post(made, {"input": "Hello.", "voice": "alloy"})
    assert answer.body == SOUND


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": None}, (400, "invalid_request", "input")),
        ({"input": " "}, (400, "invalid_request", "input")),
        ({"input": "a" * 4097}, (400, "invalid_request", "input")),
        ({"input": ["Hello."]}, (400, "invalid_request", "input")),
        ({"voice": ""}, (400, "invalid_request", "voice")),
        ({"response_format": "midi"}, (400, "invalid_request", "response_format")),
        ({"speed": 0.2}, (400, "invalid_request", "speed")),
        ({"speed": 4.5}, (400, "invalid_request", "speed")),
        ({"speed": "fast"}, (400, "invalid_request", "speed")),
        ({"stream_format": "chunks"}, (400, "invalid_request", "stream_format")),
        ({"model": "nobody"}, (404, "model_not_found", "model")),
        ({"model": "echo"}, (400, "unsupported_endpoint", "model")),
        ({"voice": "nobody"}, (400, "no_voice", "voice")),
    ],
)
async def test_what_cannot_be_said_is_refused(
    speaking: tuple[Fabric, SpeechServer], change: dict[str, Any], told: tuple[int, str, str]
) -> None:
    made, _ = speaking
    assert (await post(made, {**GOOD, **change})).told == told


async def test_a_model_that_speaks_does_nothing_else(speaking: tuple[Fabric, SpeechServer]) -> None:
    made, _ = speaking
    body = {"model": "voice", "messages": [{"role": "user", "content": "hi"}]}
    answer = await post(made, body, "/v1/chat/completions")
    assert answer.told == (400, "unsupported_endpoint", "model")
    assert SPEECH in answer.error["message"]
