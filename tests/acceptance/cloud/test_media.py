"""Pictures and sound with nothing but providers behind: right, sent once, and paid to the unit by
the provider's own count."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import wave
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import CloudSetup
from tests.acceptance.cloud.shared import AllProviders, all_providers
from tests.doubles.providers import Provider, words
from tests.doubles.providers.openai_audio import heard
from tests.doubles.providers.openai_images import picture
from tests.doubles.sdserver.pictures import png

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("afresh")]
PNG = png(8, 8, b"\x80" * 24)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AllProviders]:
    async with all_providers(tmp_path_factory.mktemp("cloud"), _more) as made:
        yield made


def _more(setup: CloudSetup, sims: dict[str, Provider]) -> None:
    """DALL·E, and one that hears by the token and streams."""
    setup.route("sketch", ["openai/dall-e-3"])
    setup.route("listen", ["openai/gpt-4o-mini-transcribe"])
    setup.price("openai", "gpt-4o-mini-tts", characters=20)
    setup.route("tell", ["openai/gpt-4o-mini-tts"])


def wav(seconds: float, tone: int = 0) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(16_000)
        made.writeframes(bytes([tone]) * int(32_000 * seconds))
    return out.getvalue()


def spoken(sound: bytes) -> str:
    """What the simulator makes of it."""
    return "".join(words.answer(heard(sound)))


@pytest.mark.parametrize(("model", "n"), [("draw", 1), ("draw", 2), ("nano/banana", 1)])
async def test_pictures(cloud: AllProviders, model: str, n: int) -> None:
    size: Any = "1024x1024"
    raw = await cloud.client.images.with_raw_response.generate(
        model=model, prompt="a mill", size=size, n=n, response_format="b64_json"
    )
    data: Any = raw.parse().data
    drawn = [base64.b64decode(each.b64_json) for each in data]
    assert drawn == [picture("a mill", at, size) for at in range(n)]
    assert (await cloud.billed(model, raw.headers)).used.images == n


async def test_pictures_of_imagen(cloud: AllProviders) -> None:
    raw = await cloud.client.images.with_raw_response.generate(
        model="imagen", prompt="a mill", n=3, size="1024x1024"
    )
    data: Any = raw.parse().data
    assert len(data) == 3
    assert (await cloud.billed("imagen", raw.headers)).body["parameters"]["sampleCount"] == 3


async def test_pictures_of_dalle_are_base64_or_urls_as_asked(cloud: AllProviders) -> None:
    forms: Any = ("b64_json", "url")
    for form in forms:
        raw = await cloud.client.images.with_raw_response.generate(
            model="sketch",
            prompt="a mill",
            size="1024x1024",
            quality="standard",
            response_format=form,
        )
        data: Any = raw.parse().data
        assert getattr(data[0], form)
        assert len(cloud.sent("openai")) == 1
        assert await cloud.paid(raw.headers) == 40_000


async def test_pictures_that_stream(cloud: AllProviders) -> None:
    raw = await cloud.client.images.with_raw_response.generate(
        model="draw", prompt="a mill", size="1024x1024", stream=True, partial_images=1
    )
    events: Any = [event async for event in raw.parse()]
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    assert base64.b64decode(events[-1].b64_json) == picture("a mill", 0, "1024x1024")
    await cloud.billed("draw", raw.headers)


async def test_edits(cloud: AllProviders) -> None:
    raw = await cloud.client.images.with_raw_response.edit(
        model="draw",
        image=[("a.png", PNG, "image/png"), ("b.png", PNG, "image/png")],
        prompt="more water",
        size="1024x1024",
    )
    data: Any = raw.parse().data
    assert base64.b64decode(data[0].b64_json) == picture("more water", 0, "1024x1024")
    sent = await cloud.billed("draw", raw.headers)
    assert sent.used.input == 2 + 2 * words.PICTURE
    assert sent.body["model"] == "gpt-image-1"


# Sound


@pytest.mark.parametrize("form", ["json", "text", "srt", "verbose_json", "vtt"])
async def test_transcriptions(cloud: AllProviders, form: Any) -> None:
    sound = wav(7.0, 3)
    raw = await cloud.client.audio.transcriptions.with_raw_response.create(
        model="hear", file=("a.wav", sound), response_format=form
    )
    assert spoken(sound) in raw.text
    told = raw.headers["content-type"]
    assert told.startswith("application/json" if "json" in form else "text/plain")
    if form == "text":
        assert raw.text == spoken(sound) + "\n"
    await cloud.billed("hear", raw.headers)


async def test_a_transcript_of_a_model_that_counts_tokens(cloud: AllProviders) -> None:
    sound = wav(6.0)
    raw = await cloud.client.audio.transcriptions.with_raw_response.create(
        model="listen", file=("a.wav", sound), response_format="json"
    )
    assert raw.parse().text == spoken(sound)
    assert await cloud.paid(raw.headers) == _listened(cloud)
    streamed = await cloud.client.audio.transcriptions.create(
        model="listen", file=("a.wav", sound), stream=True
    )
    events: Any = [event async for event in streamed]
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", spoken(sound))
    assert "".join(e.delta for e in events[:-1]) == spoken(sound)
    assert await cloud.paid() == _listened(cloud)


def _listened(cloud: AllProviders) -> int:
    """What the one request costs by its tokens, whatever the length and size of the file."""
    [sent] = cloud.sent("openai")
    assert sent.used.input == 60
    return math.ceil(sent.used.input * 1.25 + sent.used.output * 5)


async def test_a_recording_that_travels_by_reference(cloud: AllProviders) -> None:
    sound = wav(30.0, 5)
    raw = await cloud.client.audio.transcriptions.with_raw_response.create(
        model="hear", file=("a.wav", sound), response_format="json"
    )
    assert raw.parse().text == spoken(sound)
    assert (await cloud.billed("hear", raw.headers)).files["file"] == [sound]


@pytest.mark.parametrize("form", ["json", "text"])
async def test_translations(cloud: AllProviders, form: Any) -> None:
    sound = wav(4.0)
    with pytest.warns(DeprecationWarning, match="deprecated"):  # by the client
        raw = await cloud.client.audio.translations.with_raw_response.create(
            model="hear", file=("a.wav", sound), response_format=form, prompt="#x said"
        )
    assert "#x said" in raw.text
    sent = await cloud.billed("hear", raw.headers)
    assert sent.path.endswith("/audio/translations")


@pytest.mark.parametrize("form", ["mp3", "wav", "flac"])
async def test_speech(cloud: AllProviders, form: Any) -> None:
    made = await cloud.client.audio.speech.create(
        model="speak", voice="alloy", input="hello, mill", response_format=form
    )
    kinds = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac"}
    assert made.response.headers["content-type"] == kinds[form]
    assert made.content.startswith({"mp3": b"\xff\xfb", "wav": b"RIFF", "flac": b"fLaC"}[form])
    await cloud.billed("speak", made.response.headers)


async def test_speech_in_events(cloud: AllProviders) -> None:
    async with cloud.client.audio.speech.with_streaming_response.create(
        model="tell", voice="alloy", input="hello", stream_format="sse"
    ) as made:
        text = (await made.read()).decode()
    assert made.headers["x-headrace-served-by"] == "provider:openai"
    found = [json.loads(line) for line in re.findall(r"^data: (\{.*)$", text, re.MULTILINE)]
    assert [each["type"] for each in found] == ["speech.audio.delta", "speech.audio.done"]
    assert len(cloud.sent("openai")) == 1
    assert await cloud.paid() == 5 * 20
