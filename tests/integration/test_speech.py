"""Text to speech through the fabric: the official client, and an engine that makes sounds."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from tests.doubles.base import document, sse
from tests.fabric import Fabric
from tests.integration.one_endpoint import OneEndpointServer, client, fabric_with, post

SPEECH = "/v1/audio/speech"
SOUND = bytes(range(256)) * 2000
"""Half a megabyte: more than one frame."""
GOOD: dict[str, Any] = {"model": "voice", "input": "Hello.", "voice": "alloy"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


class SpeechServer(OneEndpointServer):
    """An engine with OpenAI's API that only speaks."""

    model, path = "voice", SPEECH

    def reply(self, asked: dict[str, Any]) -> web.Response:
        if asked["voice"] == "nobody":
            told = {"message": "There is no such voice here.", "param": "voice", "code": "no_voice"}
            return document({"error": told}, 400)
        if asked.get("stream_format") == "sse":
            half = base64.b64encode(b"half").decode()
            pieces = [sse({"type": "speech.audio.delta", "audio": half}) for _ in range(2)]
            done = sse({"type": "speech.audio.done", "usage": {"input_tokens": 3}})
            return document(b"".join(pieces) + done, content_type="text/event-stream")
        return document(SOUND, content_type=f"audio/{asked.get('response_format') or 'mpeg'}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def speaking(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Fabric, SpeechServer]]:
    server = SpeechServer()
    async with fabric_with(server, tmp_path_factory.mktemp("fabric")) as made:
        yield made, server


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
    assert server.asked(SPEECH)[-1] == {
        **GOOD,
        "speed": 1.5,
        "instructions": "softly",
        **more,
    }


async def test_the_sound_arrives_in_events(speaking: tuple[Fabric, SpeechServer]) -> None:
    made, _ = speaking
    answer = await post(made, "/audio/speech", {**GOOD, "stream_format": "sse"})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.body.split(b"\n") if line.startswith(b"data:")]
    events = [orjson.loads(line[5:]) for line in lines]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 2 + ["speech.audio.done"]


async def test_a_model_need_not_be_named(speaking: tuple[Fabric, SpeechServer]) -> None:
    made, _ = speaking
    answer = await post(made, SPEECH, {"input": "Hello.", "voice": "alloy"})
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
    assert (await post(made, SPEECH, {**GOOD, **change})).told == told


async def test_a_model_that_speaks_does_nothing_else(speaking: tuple[Fabric, SpeechServer]) -> None:
    made, _ = speaking
    body = {"model": "voice", "messages": [{"role": "user", "content": "hi"}]}
    answer = await post(made, "/v1/chat/completions", body)
    assert answer.told == (400, "unsupported_endpoint", "model")
    assert SPEECH in answer.error["message"]
