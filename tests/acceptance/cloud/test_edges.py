"""What endpoints do beside the plain case with providers behind them: addresses of pictures, many
choices of those who give one, large requests, refusals and faults in each dialect."""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import SECRET, CloudSetup
from tests.acceptance.cloud.shared import ROUTES, AllProviders, all_providers, cost, user
from tests.doubles.providers import (
    Anthropic,
    Google,
    Groq,
    OpenRouter,
    Provider,
    Together,
    broken,
    refuse,
    words,
)
from tests.doubles.providers.openai_images import picture
from tests.doubles.sdserver.pictures import png
from tests.fabric import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("afresh")]
PNG = png(8, 8, b"\x80" * 24)
B64 = base64.b64encode(PNG).decode()
SIZE: Any = "1024x1024"
LENIENT = {"x-headrace-lenient": "true"}
DIALECTS = {
    "openrouter": (OpenRouter, "meta-llama/llama-3.3-70b-instruct"),
    "groq": (Groq, "llama-3.1-8b-instant"),
    "together": (Together, "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dialects() -> AsyncIterator[dict[str, Provider]]:
    made: dict[str, Provider] = {name: kind(key=SECRET) for name, (kind, _) in DIALECTS.items()}
    for sim in made.values():
        await sim.start()
    yield made
    for sim in made.values():
        await sim.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(
    tmp_path_factory: pytest.TempPathFactory, dialects: dict[str, Provider]
) -> AsyncIterator[AllProviders]:
    def more(setup: CloudSetup, sims: dict[str, Provider]) -> None:
        for name, sim in dialects.items():
            model = DIALECTS[name][1]
            setup.provider(name, sim)
            setup.price(name, model, input=1, output=2)
            setup.route(f"by/{name}", [f"{name}/{model}"])

    async with all_providers(tmp_path_factory.mktemp("cloud"), more) as made:
        yield made


# Pictures


async def seen(url: str) -> bytes:
    """What lies at an address, for one who has no key."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        return await answer.read()


@pytest.mark.parametrize("model", ["draw", "nano/banana", "imagen"])
async def test_pictures_at_our_own_addresses(cloud: AllProviders, model: str) -> None:
    """No provider keeps them, and its own addresses would tell who it is."""
    raw = await cloud.client.images.with_raw_response.generate(
        model=model, prompt="a mill", size=SIZE, n=1, response_format="url"
    )
    [one] = raw.parse().data or []
    assert one.url is not None
    assert one.url.startswith(cloud.setup.fabric.url)
    assert await seen(one.url) == picture("a mill", 0, SIZE)
    await cloud.billed(model, raw.headers)


async def test_edits_at_our_own_addresses(cloud: AllProviders) -> None:
    raw = await cloud.client.images.with_raw_response.edit(
        model="draw",
        image=("a.png", PNG, "image/png"),
        mask=("m.png", PNG, "image/png"),
        prompt="more water",
        size=SIZE,
        response_format="url",
    )
    [one] = raw.parse().data or []
    assert one.url is not None
    assert await seen(one.url) == picture("more water", 0, SIZE)
    sent = await cloud.billed("draw", raw.headers)
    assert (sent.files["image"], sent.files["mask"]) == ([PNG], [PNG])


async def test_more_pictures_than_the_model_draws_at_a_time(cloud: AllProviders) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await cloud.client.images.generate(model="nano/banana", prompt="a mill", n=2)
    assert 400 <= caught.value.status_code < 500
    assert "at most 1 at a time" in caught.value.message
    assert not cloud.sent("google")


# Eyes and ears


async def test_pictures_in_responses(cloud: AllProviders) -> None:
    asked: Any = [
        {"type": "input_text", "text": "#p one"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{B64}", "detail": "low"},
    ]
    raw = await cloud.client.responses.with_raw_response.create(
        model="chat", input=[{"role": "user", "content": asked}]
    )
    assert raw.parse().output_text == "#p one"
    assert (await cloud.billed("chat", raw.headers)).used.input == 2 + words.PICTURE


async def test_pictures_in_messages(cloud: AllProviders, claude: anthropic.AsyncAnthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": B64}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "#p one"}]
    raw = await claude.messages.with_raw_response.create(
        model="claude", max_tokens=5, messages=[{"role": "user", "content": content}]
    )
    block: Any = (await raw.parse()).content[0]
    assert block.text == "#p one"
    assert (await cloud.billed("claude", raw.headers)).used.input == 2 + words.PICTURE


async def test_whisper_answers_whole_where_a_stream_is_asked_for(cloud: AllProviders) -> None:
    """As OpenAI has it: it ignores the field with this model."""
    out = io.BytesIO()
    with wave.open(out, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(16_000)
        made.writeframes(bytes(64_000))
    fabric, form = cloud.setup.fabric, aiohttp.FormData({"model": "hear", "stream": "true"})
    form.add_field("file", out.getvalue(), filename="a.wav")
    url = f"{fabric.url}/v1/audio/transcriptions"
    async with fabric.session.post(url, data=form, headers=fabric.headers) as answer:
        assert answer.status == 200
        assert "heard" in (await answer.json())["text"]
        await cloud.billed("hear", answer.headers)


# Large, many, lenient


async def test_a_prompt_that_travels_by_reference(cloud: AllProviders) -> None:
    said = "#l " + "mill " * 80_000
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model="chat", messages=user(said), max_tokens=3
    )
    assert raw.parse().choices[0].message.content == "#l mill mill"
    assert (await cloud.billed("chat", raw.headers)).used.input == 80_001


async def test_more_texts_than_one_request_may_have_there(cloud: AllProviders) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await cloud.client.embeddings.create(model="bge", input=["x"] * 101)
    assert 400 <= caught.value.status_code < 500
    assert "more than 100 texts" in caught.value.message
    assert not cloud.sent("cloudflare")


@pytest.mark.parametrize("stream", [False, True])
async def test_choices_of_those_who_give_one_say_what_they_cost_together(
    cloud: AllProviders, stream: bool
) -> None:
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model="claude",
        messages=user("#n one two"),
        max_tokens=3,
        n=3,
        stream=stream,
        stream_options={"include_usage": True} if stream else openai.omit,
    )
    made: Any = raw.parse()
    usage = [chunk async for chunk in made][-1].usage if stream else made.usage
    sent = cloud.sent("anthropic")
    assert usage.completion_tokens == sum(one.used.output for one in sent) == 9
    assert raw.headers["x-headrace-served-by"] == "provider:anthropic"
    paid = await cloud.paid(None if stream else raw.headers)
    assert paid == sum(cost("claude", one) for one in sent)


async def test_the_lenient_are_served_and_warned(cloud: AllProviders) -> None:
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model="claude",
        messages=user("#w one"),
        max_tokens=2,
        seed=5,
        logit_bias={"1": 1},
        extra_headers=LENIENT,
    )
    assert raw.parse().choices[0].message.content == "#w one"
    assert "seed" in raw.headers["x-headrace-warning"]
    sent = await cloud.billed("claude", raw.headers)
    assert sent.body.keys() == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_dialects_by_config_alone(
    cloud: AllProviders, dialects: dict[str, Provider], name: str, stream: bool
) -> None:
    sim, model = dialects[name], f"by/{name}"
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model, messages=user("#d one two"), max_tokens=3, stream=stream
    )
    made: Any = raw.parse()
    if stream:
        chunks = [chunk async for chunk in made]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "#d one two"
        assert {chunk.model for chunk in chunks} == {model}
    else:
        assert (made.choices[0].message.content, made.model) == ("#d one two", model)
    assert raw.headers["x-headrace-served-by"] == f"provider:{name}"
    sent = sim.record.requests[-1]
    assert await cloud.paid(None if stream else raw.headers) == sent.used.input + 2 * 3


# Refusals and faults


@pytest.mark.parametrize("stream", [False, True])
async def test_what_google_blocks(cloud: AllProviders, stream: bool) -> None:
    google = cloud.sims["google"]
    assert isinstance(google, Google)
    google.blocked = {"forbidden"}
    try:
        raw = await cloud.client.chat.completions.with_raw_response.create(
            model="gemini", messages=user("#b forbidden"), stream=stream
        )
        made: Any = raw.parse()
        ends = [c.choices[0].finish_reason async for c in made] if stream else []
        assert (ends[-1] if stream else made.choices[0].finish_reason) == "content_filter"
        await cloud.billed("gemini", raw.headers)
        with pytest.raises(openai.BadRequestError) as caught:
            await cloud.client.images.generate(model="nano/banana", prompt="forbidden")
        assert caught.value.code == "content_policy_violation"
        assert len(cloud.sent("google")) == 1
    finally:
        google.blocked = set()


@pytest.mark.parametrize("model", ["chat", "gemini", "llama:edge", "claude", "some"])
async def test_a_request_that_the_provider_does_not_take_is_the_clients(
    cloud: AllProviders, model: str
) -> None:
    name = ROUTES[model].partition("/")[0]
    cloud.sims[name].faults.add(refuse(400, message="the prompt is too long"))
    with pytest.raises(openai.BadRequestError) as caught:
        await cloud.client.chat.completions.create(model=model, messages=user("x"))
    assert "the prompt is too long" in caught.value.message
    assert caught.value.response.headers["x-headrace-error-source"] == f"provider:{name}"
    assert len(cloud.sent(name)) == 1
    assert await cloud.paid() == 0


async def test_faults_of_messages_have_their_own_shape(
    cloud: AllProviders, claude: anthropic.AsyncAnthropic
) -> None:
    sim = cloud.sims["anthropic"]
    assert isinstance(sim, Anthropic)
    sim.faults.add(refuse(400, message="messages: too many"))
    with pytest.raises(anthropic.BadRequestError, match="messages: too many") as caught:
        await claude.messages.create(model="claude", max_tokens=5, messages=user("x"))
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    sim.faults.add(broken(after=2))
    pieces: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as broke:
        await _said(claude, "#m a b c d e", pieces)
    assert "".join(pieces) == "#m a"
    assert "anthropic" in str(broke.value)
    assert len(cloud.sent("anthropic")) == 2
    assert await cloud.paid() > 0


async def _said(claude: anthropic.AsyncAnthropic, text: str, pieces: list[str]) -> None:
    messages = user(text)
    async with claude.messages.stream(model="claude", max_tokens=9, messages=messages) as stream:
        async for piece in stream.text_stream:
            pieces.append(piece)


async def test_responses_that_break_off(cloud: AllProviders) -> None:
    cloud.sims["openai"].faults.add(broken(after=2))
    stream = await cloud.client.responses.create(model="chat", input="#r a b c", stream=True)
    pieces: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        await _heard(stream, pieces)
    assert ("".join(pieces), caught.value.code) == ("#r a", "stream_interrupted")
    assert len(cloud.sent("openai")) == 1
    assert await cloud.paid() > 0


async def _heard(stream: Any, pieces: list[str]) -> None:
    async for event in stream:
        pieces += [event.delta] if event.type == "response.output_text.delta" else []


async def test_clients_learn_nothing_of_the_account_there(cloud: AllProviders) -> None:
    sim = cloud.sims["openai"]
    said = "organization org-AbCdEf123456 on tokens per min: Limit 30000, Used 29999."
    ask: Any = {"model": "chat", "messages": user("x"), "max_tokens": 5}
    sim.faults.add(*[refuse(429, message=said, retry_after=0) for _ in range(3)])
    with pytest.raises(openai.APIStatusError) as busy:
        await cloud.client.chat.completions.create(**ask)
    sim.faults.add(refuse(400, message=f"The project proj_AbCdEf123456 of {said}"))
    with pytest.raises(openai.BadRequestError) as caught:
        await cloud.client.chat.completions.create(**ask)
    assert "openai answered 429" in busy.value.message
    assert "29999" not in busy.value.message
    assert "project [account] of organization [account]" in caught.value.message
    assert len(cloud.sent("openai")) == 4
    assert await cloud.paid() == 0


@pytest.mark.parametrize(
    ("model", "ask"),
    [
        ("embed", {"embeddings": {"input": "x"}}),
        ("draw", {"images": {"prompt": "x", "size": SIZE}}),
        ("imagen", {"images": {"prompt": "x"}}),
        ("speak", {"speech": {"input": "x", "voice": "alloy"}}),
        ("hear", {"transcriptions": {"file": ("a.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40))}}),
        ("chat", {"responses": {"input": "x"}}),
    ],
)
async def test_a_provider_that_is_away_is_named_and_nothing_is_paid(
    cloud: AllProviders, model: str, ask: dict[str, Any]
) -> None:
    name = ROUTES[model].partition("/")[0]
    sim, client = cloud.sims[name], cloud.client
    calls: Any = {
        "embeddings": client.embeddings.create,
        "images": client.images.generate,
        "speech": client.audio.speech.create,
        "transcriptions": client.audio.transcriptions.create,
        "responses": client.responses.create,
    }
    [(what, fields)] = ask.items()
    sim.faults.add(refuse(500), refuse(503, retry_after=0), refuse(500))
    try:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(openai.APIStatusError) as caught:
                await calls[what](model=model, **fields)
        assert (caught.value.status_code, caught.value.code) == (502, "provider_failed")
        assert f"{name} answered 5" in caught.value.message
        assert await cloud.paid() == 0
    finally:
        sim.faults.clear()
    cloud.sent(name)
    await calls[what](model=model, **fields)
    assert len(cloud.sent(name)) == 1
