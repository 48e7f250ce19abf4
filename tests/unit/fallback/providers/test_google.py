"""Google: the compatible surface for texts, its own for pictures."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fallback.cost.spent import NOTHING
from fallback.providers.base import Provider, ProviderFault
from fallback.providers.google import ratio
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import Google, broken, refuse
from tests.unit.fallback.providers.tasks import ASKED_FOR, KEY, chat, opened, same, task

STREAMED = pytest.mark.parametrize("stream", [False, True])
IMAGES = "/v1/images/generations"
FLASH, DRAWS, IMAGEN = "gemini-2.5-flash", "gemini-2.5-flash-image", "imagen-4.0-generate-001"


@pytest.fixture
async def sim() -> AsyncIterator[Google]:
    async with Google(key=KEY) as found:
        yield found


@pytest.fixture(params=["/v1beta", "/v1beta/openai"])
async def cloud(
    sim: Google, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Provider]:
    async with opened(monkeypatch, "google", sim.url + request.param) as provider:
        yield provider


@STREAMED
async def test_thoughts_are_paid_for(cloud: Provider, sim: Google, stream: bool) -> None:
    sim.pace.reasoning = 9
    sink = RecordingSink()
    spent = await cloud.call(chat(FLASH, stream=stream, store=True, user="me"), sink)
    assert same(spent, sim)
    assert spent.completion == 4 + 9
    if stream:
        assert b'"usage"' not in sink.body
        assert {event["model"] for event in sink.events} == {ASKED_FOR}
    assert "store" not in sim.record.requests[0].body


async def test_what_was_told_so_far_counts_when_it_breaks(cloud: Provider, sim: Google) -> None:
    sim.faults.add(broken(2))
    asked = chat(FLASH, stream=True)
    with pytest.raises(ProviderFault):
        await cloud.call(asked, RecordingSink())
    used = sim.record.requests[0].used
    assert (asked.spent.prompt, asked.spent.completion) == (used.input, used.output)


async def test_sound_goes_where_it_costs_what_text_does(cloud: Provider) -> None:
    said = [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]
    heard = [{"role": "user", "content": "x"}, {"role": "user", "content": said}]
    for model, fit in {
        "gemini-2.5-pro": True,
        FLASH: False,
        "gemini-2.5-flash-lite": False,
    }.items():
        asked = task("/v1/chat/completions", model, messages=heard)
        assert (cloud.unfit(asked) == "") is fit
        assert cloud.unfit(chat(model)) == ""


async def test_embeddings(cloud: Provider, sim: Google) -> None:
    sink = RecordingSink()
    spent = await cloud.call(task("/v1/embeddings", "gemini-embedding-001", input="a b"), sink)
    assert len(sink.document["data"]) == 1
    assert spent.prompt >= 0


async def test_errors_in_arrays_are_read(cloud: Provider, sim: Google) -> None:
    sim.faults.add(refuse(400), refuse(429, retry_after=7), refuse(503))
    sink = RecordingSink()
    assert await cloud.call(chat(FLASH), sink) == NOTHING
    assert sink.status == 400
    assert sink.document["error"]["message"] == "Request contains an invalid argument."
    for wait in (7.0, None):
        with pytest.raises(ProviderFault) as caught:
            await cloud.call(chat(FLASH), RecordingSink())
        assert (caught.value.reason, caught.value.retry_after) == ("busy", wait)


@pytest.mark.parametrize("model", [FLASH, DRAWS, IMAGEN])
async def test_a_wrong_key_is_no_fault_of_the_client(
    sim: Google, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Google answers 400 to it."""
    async with opened(monkeypatch, "google", sim.url + "/v1beta", key="AIza-wrong") as cloud:
        asked = chat(model) if model == FLASH else task(IMAGES, model, prompt="a cat")
        with pytest.raises(ProviderFault) as caught:
            await cloud.call(asked, RecordingSink())
    assert caught.value.reason == "key"


async def test_gemini_draws(cloud: Provider, sim: Google) -> None:
    sink = RecordingSink()
    asked = task(IMAGES, DRAWS, prompt="a cat", size="1536x1024", response_format="b64_json")
    assert cloud.unfit(asked) == ""
    spent = await cloud.call(asked, sink)
    assert same(spent, sim)
    assert (spent.images, spent.completion) == (1, 1290)
    answer = sink.document
    assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(b"\x89PNG")
    assert answer["size"] == "1024x1024"
    assert answer["usage"]["output_tokens"] == 1290
    [sent] = sim.record.requests
    assert sent.path == f"/v1beta/models/{DRAWS}:generateContent"
    assert sent.body["generationConfig"]["imageConfig"] == {"aspectRatio": "3:2"}


async def test_imagen_draws_several(cloud: Provider, sim: Google) -> None:
    sink = RecordingSink()
    spent = await cloud.call(task(IMAGES, IMAGEN, prompt="a cat", n=3, size="1024x1024"), sink)
    assert spent.images == len(sink.document["data"]) == 3
    parameters = sim.record.requests[0].body["parameters"]
    assert parameters == {"sampleCount": 3, "aspectRatio": "1:1"}


async def test_a_filter_is_a_refusal(cloud: Provider, sim: Google) -> None:
    sim.blocked.add("forbidden")
    sink = RecordingSink()
    assert await cloud.call(task(IMAGES, DRAWS, prompt="a forbidden cat"), sink) == NOTHING
    assert sink.status == 400
    assert sink.document["error"]["code"] == "content_policy_violation"


NOT_DRAWN: list[tuple[str, dict[str, Any]]] = [
    (DRAWS, {"n": 2}),
    (IMAGEN, {"n": 5}),
    (IMAGEN, {"size": "1024x1536"}),
    (DRAWS, {"size": "4096x256"}),
    (DRAWS, {"quality": "high"}),
    (DRAWS, {"seed": 0}),
    (DRAWS, {"stream": True}),
    (DRAWS, {"output_format": "webp"}),
    (DRAWS, {"response_format": "url"}),
    (FLASH, {}),
]


async def test_what_it_cannot_draw(subtests: pytest.Subtests, cloud: Provider) -> None:
    for model, more in NOT_DRAWN:
        with subtests.test(f"{model!r:.60} {more!r:.60}"):
            assert cloud.unfit(task(IMAGES, model, prompt="a cat", **more))


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        (IMAGEN, "512x512", "1:1"),
        (IMAGEN, "1792x1024", "16:9"),
        (IMAGEN, "1024x768", "4:3"),
        (IMAGEN, "1024x1536", ""),
        (DRAWS, "1024x1536", "2:3"),
        (DRAWS, "2560x1080", "21:9"),
    ],
)
def test_sizes_become_ratios(model: str, size: str, expected: str) -> None:
    assert ratio(model, size) == expected
