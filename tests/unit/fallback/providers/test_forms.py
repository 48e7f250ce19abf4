"""Recordings, speech and pictures through a provider: forms in, bytes out, and what they cost."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import pytest

from fallback.cost.spent import Spent
from fallback.providers.base import Provider, ProviderFault
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import OpenAI, broken, cut, unmetered
from tests.unit.fallback.providers.tasks import form, same, task

HEAR, TRANSLATE = "/v1/audio/transcriptions", "/v1/audio/translations"
SPEECH, IMAGES, EDITS = "/v1/audio/speech", "/v1/images/generations", "/v1/images/edits"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def wav(seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(int(8000 * seconds) * 2))
    return buffer.getvalue()


SOUND = wav(2.5)


@pytest.mark.parametrize("path", [HEAR, TRANSLATE])
@pytest.mark.parametrize("format_", ["json", "text", "srt", "vtt", "verbose_json"])
async def test_every_format_of_a_transcript(
    cloud: Provider, sim: OpenAI, path: str, format_: str
) -> None:
    sink = RecordingSink()
    asked = form(path, "whisper-1", {"file": SOUND}, prompt="one two", response_format=format_)
    assert cloud.unfit(asked) == ""
    spent = await cloud.call(asked, sink)
    assert 2.5 <= spent.seconds <= 3
    assert spent.told is (format_ not in ("srt", "vtt"))
    assert b"one two" in sink.body
    if format_ == "text":
        assert sink.body == b"one two\n"
        assert sink.content_type.startswith("text/plain")
    [sent] = sim.record.requests
    assert sent.model == "whisper-1"
    assert sent.files["file"] == [SOUND]


@pytest.mark.parametrize("stream", [False, True])
async def test_transcripts_paid_by_the_token(cloud: Provider, sim: OpenAI, stream: bool) -> None:
    sink = RecordingSink()
    more = {"stream": "true"} if stream else {}
    asked = form(HEAR, "gpt-4o-transcribe", {"file": SOUND}, prompt="one two three", **more)
    spent = await cloud.call(asked, sink)
    assert same(spent, sim)
    assert spent.seconds == 2.5  # which is paid where no tokens are told
    if stream:
        assert sink.events[-1]["type"] == "transcript.text.done"


async def test_a_transcript_that_breaks_in_mid_stream(cloud: Provider, sim: OpenAI) -> None:
    sim.faults.add(cut(2))
    asked = form(HEAR, "gpt-4o-transcribe", {"file": SOUND}, prompt="one two three", stream="true")
    with pytest.raises(ProviderFault):
        await cloud.call(asked, RecordingSink())
    assert asked.spent.completion == 2
    assert asked.spent.prompt >= 25  # all of it was heard
    assert asked.spent.seconds == 2.5


async def test_seconds_that_nobody_told_are_the_recordings(cloud: Provider, sim: OpenAI) -> None:
    sim.faults.add(unmetered())
    spent = await cloud.call(form(HEAR, "whisper-1", {"file": SOUND}), RecordingSink())
    assert spent == Spent(seconds=2.5, told=False)


async def test_a_large_recording_passes(cloud: Provider, sim: OpenAI) -> None:
    large = wav(200)
    await cloud.call(form(HEAR, "whisper-1", {"file": large}), RecordingSink())
    assert sim.record.requests[0].files["file"] == [large]


@pytest.mark.parametrize("format_", ["mp3", "wav", "opus"])
async def test_speech_is_sound(cloud: Provider, sim: OpenAI, format_: str) -> None:
    sink = RecordingSink()
    asked = task(SPEECH, "tts-1", input="hello you", voice="alloy", response_format=format_)
    spent = await cloud.call(asked, sink)
    assert spent == Spent(characters=9)
    assert sink.content_type.startswith("audio/")
    assert len(sink.body) > 1000
    assert sim.record.requests[0].used.characters == 9


async def test_speech_as_events(cloud: Provider, sim: OpenAI) -> None:
    sink = RecordingSink()
    asked = task(SPEECH, "gpt-4o-mini-tts", input="hi you", voice="alloy", stream_format="sse")
    spent = await cloud.call(asked, sink)
    assert sink.events[-1]["type"] == "speech.audio.done"
    assert spent.characters == 6
    assert spent.completion == sim.record.requests[0].used.output


async def test_speech_that_is_cut_is_none(cloud: Provider, sim: OpenAI) -> None:
    sim.faults.add(cut(1))
    sink = RecordingSink()
    with pytest.raises(ProviderFault):
        await cloud.call(task(SPEECH, "tts-1", input="hello you", voice="alloy"), sink)
    assert not sink.status


async def test_pictures(cloud: Provider, sim: OpenAI) -> None:
    sink = RecordingSink()
    more: dict[str, Any] = {"size": "1024x1536", "quality": "low", "response_format": "b64_json"}
    asked = task(IMAGES, "gpt-image-1", prompt="a cat", n=2, **more)
    assert cloud.unfit(asked) == ""
    spent = await cloud.call(asked, sink)
    assert same(spent, sim)
    assert (spent.images, spent.size, spent.quality) == (2, "1024x1536", "low")
    assert len(sink.document["data"]) == 2
    assert "response_format" not in sim.record.requests[0].body


async def test_pictures_come_as_base64_alone(cloud: Provider) -> None:
    assert cloud.unfit(task(IMAGES, "gpt-image-1", prompt="a cat", response_format="url"))
    assert cloud.unfit(task(IMAGES, "dall-e-2", prompt="a cat", response_format="url")) == ""


async def test_a_streamed_picture(cloud: Provider, sim: OpenAI) -> None:
    sink = RecordingSink()
    asked = task(
        IMAGES, "gpt-image-1", prompt="a cat", stream=True, partial_images=1, size="1024x1024"
    )
    spent = await cloud.call(asked, sink)
    assert same(spent, sim)
    assert spent.images == 1
    assert sink.events[-1]["type"] == "image_generation.completed"


async def test_an_edit(cloud: Provider, sim: OpenAI) -> None:
    sink = RecordingSink()
    asked = form(
        EDITS, "gpt-image-1", {"image": PNG}, prompt="a hat", response_format="b64_json", n="1"
    )
    spent = await cloud.call(asked, sink)
    assert same(spent, sim)
    assert sim.record.requests[0].body.get("response_format") is None
    assert sim.record.requests[0].files["image"] == [PNG]


async def test_a_picture_that_fails(cloud: Provider, sim: OpenAI) -> None:
    sim.faults.add(broken(0))
    sink = RecordingSink()
    with pytest.raises(ProviderFault):
        await cloud.call(task(IMAGES, "dall-e-3", prompt="a cat"), sink)
    assert not sink.status
