"""What every kind of provider does for text: right, named as the client named it, sent once, and
paid to the unit by the provider's own count."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest

from tests.acceptance.cloud.shared import ROUTES, AllProviders, cost, user
from tests.doubles.providers import words
from tests.doubles.providers.vectors import embedding
from tests.doubles.sdserver.pictures import png

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("afresh")]
TALKING = ("chat", "gemini", "llama:edge", "claude", "some")
EMBEDDING = {"embed": 1536, "gemini-embed": 1024, "bge": 768, "vectors": 1024}
PICTURE = "data:image/png;base64," + base64.b64encode(png(8, 8, b"\x80" * 24)).decode()
PARAMETERS: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": PARAMETERS}}


@pytest.mark.parametrize("model", TALKING)
@pytest.mark.parametrize("stream", [False, True])
async def test_text(cloud: AllProviders, model: str, stream: bool) -> None:
    prompt = "say #t one two three"
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model, messages=user(prompt), max_tokens=5, stream=stream
    )
    made: Any = raw.parse()
    if stream:
        chunks = [chunk async for chunk in made]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert {chunk.model for chunk in chunks} == {model}
        assert raw.headers["x-headrace-cost-limit"]
    else:
        text = made.choices[0].message.content
        assert made.model == model
    assert text == "".join(words.answer(prompt, 5))
    sent = await cloud.billed(model, raw.headers)
    assert (sent.used.output, sent.stream) == (5, stream)


@pytest.mark.parametrize("model", TALKING)
@pytest.mark.parametrize("wanted", [False, True])
async def test_usage_in_a_stream_is_told_to_who_wants_it(
    cloud: AllProviders, model: str, wanted: bool
) -> None:
    """The fabric asks for it always: it is what is paid."""
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model,
        messages=user("#s one two"),
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": wanted},
    )
    told = [chunk.usage async for chunk in raw.parse() if chunk.usage is not None]
    sent = await cloud.billed(model, raw.headers)
    assert [usage.completion_tokens for usage in told[-1:]] == [sent.used.output] * wanted


@pytest.mark.parametrize("model", TALKING)
@pytest.mark.parametrize("stream", [False, True])
async def test_tools(cloud: AllProviders, model: str, stream: bool) -> None:
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model, messages=user("what weather is it"), tools=[WEATHER], stream=stream
    )
    made: Any = raw.parse()
    if stream:
        deltas = [c.choices[0].delta async for c in made if c.choices]
        calls = [call for delta in deltas for call in delta.tool_calls or ()]
        name, arguments = calls[0].function.name, "".join(c.function.arguments for c in calls)
    else:
        [call] = made.choices[0].message.tool_calls
        name, arguments = call.function.name, call.function.arguments
    assert name == "weather"
    assert arguments == "".join(words.constrained(PARAMETERS))
    await cloud.billed(model, raw.headers)


@pytest.mark.parametrize("model", ["chat", "gemini", "llama:edge", "some"])
@pytest.mark.parametrize("stream", [False, True])
async def test_schema(cloud: AllProviders, model: str, stream: bool) -> None:
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model, messages=user("any"), response_format=SCHEMA, stream=stream
    )
    made: Any = raw.parse()
    if stream:
        chunks = [chunk async for chunk in made]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    else:
        text = made.choices[0].message.content
    assert text == "".join(words.constrained(PARAMETERS))
    await cloud.billed(model, raw.headers)


@pytest.mark.parametrize("model", TALKING)
@pytest.mark.parametrize("stream", [False, True])
async def test_choices(cloud: AllProviders, model: str, stream: bool) -> None:
    """Where the provider gives one at a time, jobs are fanned out, and each is paid."""
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model, messages=user("#n one two"), max_tokens=3, n=2, stream=stream
    )
    made: Any = raw.parse()
    texts = ["", ""]
    if stream:
        async for chunk in made:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    else:
        for choice in made.choices:
            texts[choice.index] += choice.message.content
    assert texts == ["#n one two"] * 2
    sent = cloud.sent(ROUTES[model].partition("/")[0])
    assert sum(one.used.output for one in sent) == 6
    assert len(sent) == (2 if model in ("llama:edge", "claude") else 1)
    assert await cloud.paid() == sum(cost(model, one) for one in sent)


@pytest.mark.parametrize("model", TALKING)
async def test_pictures_in_prompts(cloud: AllProviders, model: str) -> None:
    content = [
        {"type": "text", "text": "#p what is it"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    messages: Any = [{"role": "user", "content": content}]
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model, messages=messages, max_tokens=4
    )
    assert raw.parse().choices[0].message.content == "#p what is it"
    sent = await cloud.billed(model, raw.headers)
    assert sent.used.input == 4 + words.PICTURE
    assert sent.body["messages"] == messages


@pytest.mark.parametrize("model", ["chat", "some"])
@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(cloud: AllProviders, model: str, stream: bool) -> None:
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model=model, messages=user("#l one"), max_tokens=2, logprobs=True, stream=stream
    )
    made: Any = raw.parse()
    choices = [c.choices[0] async for c in made if c.choices] if stream else made.choices
    told = [each.token for c in choices if c.logprobs for each in c.logprobs.content]
    assert told == ["#l", " one"]
    await cloud.billed(model, raw.headers)


@pytest.mark.parametrize(
    ("model", "lost"),
    [
        ("gemini", {"logprobs": True}),
        ("llama:edge", {"logprobs": True}),
        ("claude", {"response_format": SCHEMA}),
        ("some", {"models": ["openai/o1-pro"]}),
        *((model, {"web_search_options": {}}) for model in TALKING),
        *((model, {"grammar": 'root ::= "a"'}) for model in TALKING),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_would_be_lost_is_refused(
    cloud: AllProviders, model: str, lost: dict[str, Any], stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await cloud.client.chat.completions.create(
            model=model, messages=user("x"), extra_body=lost, stream=stream
        )
    [name] = lost
    assert caught.value.param == name
    assert name in caught.value.message
    assert not cloud.sent(ROUTES[model].partition("/")[0])
    assert await cloud.paid() == 0


async def test_cached_and_reasoned_tokens_have_their_price(cloud: AllProviders) -> None:
    for model in ("chat", "gemini", "claude"):
        pace = cloud.sims[ROUTES[model].partition("/")[0]].pace
        pace.reasoning = 7
        pace.cached = 0 if model == "gemini" else 3  # its compatible surface tells of none
        try:
            for stream in (False, True):
                raw = await cloud.client.chat.completions.with_raw_response.create(
                    model=model, messages=user("#r a b c d e"), max_tokens=3, stream=stream
                )
                made: Any = raw.parse()
                if stream:
                    assert [chunk async for chunk in made]
                sent = cloud.sent(ROUTES[model].partition("/")[0])[0]
                assert (sent.used.output, sent.used.reasoning) == (10, 7)
                # Anthropic's compatible surface tells of no cache either
                if model == "claude":
                    sent.used.cached = 0
                assert await cloud.paid() == cost(model, sent), (model, stream)
        finally:
            pace.reasoning = pace.cached = 0


@pytest.mark.parametrize("model", EMBEDDING)
async def test_embeddings(cloud: AllProviders, model: str) -> None:
    create = cloud.client.embeddings.with_raw_response.create
    size = EMBEDDING[model]
    raw = await create(model=model, input=["one two", "three"], encoding_format="float")
    made = raw.parse()
    assert [each.index for each in made.data] == [0, 1]
    assert made.data[1].embedding == pytest.approx(embedding("three", size, False))
    assert made.model == model
    assert (await cloud.billed(model, raw.headers)).used.input == 3
    raw = await create(model=model, input="four")  # the client asks for base64
    assert raw.parse().data[0].embedding == pytest.approx(embedding("four", size, False), abs=1e-6)
    sent = await cloud.billed(model, raw.headers)
    assert sent.body["encoding_format"] == "base64"


@pytest.mark.parametrize("model", ["embed", "vectors"])
async def test_embeddings_of_tokens(cloud: AllProviders, model: str) -> None:
    for given, tokens in (([1, 2, 3], 3), ([[1, 2], [3]], 3)):
        raw = await cloud.client.embeddings.with_raw_response.create(
            model=model, input=given, dimensions=64
        )
        assert len(raw.parse().data[0].embedding) == 64
        assert (await cloud.billed(model, raw.headers)).used.input == tokens


async def test_dimensions_that_would_be_lost_are_refused(cloud: AllProviders) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await cloud.client.embeddings.create(model="bge", input="x", dimensions=64)
    assert caught.value.param == "dimensions"
