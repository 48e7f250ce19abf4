"""Every endpoint by the official clients, with nothing but providers behind it: right, marked with
where it came from, and paid to the unit."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from tests.acceptance.cloud.shared import ROUTES, Cloud, cloud
from tests.fabric import KEY
from tests.sim.sdserver_pictures import png

pytestmark = pytest.mark.asyncio(loop_scope="module")
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    async with cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


PNG = png(8, 8, b"\x80" * 24)
B64 = base64.b64encode(PNG).decode()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def afresh(there: Cloud) -> None:
    """Whatever the tests before this one left behind."""
    await there.afresh()


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def wav(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(16_000)
        made.writeframes(bytes(int(32_000 * seconds)))
    return out.getvalue()


async def test_all_are_listed_as_providers(there: Cloud) -> None:
    found = {model.id: model async for model in there.client.models.list()}
    assert set(found) == set(ROUTES)
    told: Any = found["nano/banana"].model_extra
    assert told["headrace"]["providers"] == ["google"]
    assert (told["headrace"]["nodes"], found["nano/banana"].owned_by) == ([], "google")
    assert (await there.client.models.retrieve("nano/banana")).id == "nano/banana"


@pytest.mark.parametrize("model", ["chat", "gemini", "llama:edge", "claude"])
async def test_chat(there: Cloud, model: str) -> None:
    raw = await there.client.chat.completions.with_raw_response.create(
        model=model, messages=user("#c one two"), max_tokens=3
    )
    made = raw.parse()
    name = ROUTES[model].partition("/")[0]
    [sent] = there.sent(name)
    assert made.choices[0].message.content == "#c one two"
    assert (made.model, raw.headers["x-headrace-served-by"]) == (model, f"provider:{name}")
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (
        sent.used.input,
        sent.used.output,
    )
    assert await there.paid(raw.headers) > 0


@pytest.mark.parametrize("model", ["chat", "gemini", "llama:edge", "claude"])
@pytest.mark.parametrize("usage", [False, True])
async def test_chat_streamed(there: Cloud, model: str, usage: bool) -> None:
    stream = await there.client.chat.completions.create(
        model=model,
        messages=user("#s one two"),
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": usage},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "#s one two"
    assert {chunk.model for chunk in chunks} == {model}
    [sent] = there.sent(ROUTES[model].partition("/")[0])
    told = [chunk.usage for chunk in chunks if chunk.usage is not None]
    if usage:
        assert told[-1].completion_tokens == sent.used.output
    else:
        assert not told
    assert await there.paid() > 0


async def test_features_of_chat(there: Cloud) -> None:
    create = there.client.chat.completions.create
    made = await create(model="chat", messages=user("what weather is it"), tools=[WEATHER])
    assert made.choices[0].message.tool_calls is not None
    schema: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["a"]}}}
    made = await create(model="chat", messages=user("any"), response_format=schema)
    assert made.choices[0].message.content == '"a"'
    made = await create(model="chat", messages=user("#n one"), n=3, max_tokens=2)
    assert [choice.index for choice in made.choices] == [0, 1, 2]
    seen = await create(
        model="chat",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "#p what"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + B64}},
                ],
            }
        ],
        max_tokens=2,
    )
    assert seen.usage is not None
    assert seen.usage.prompt_tokens > 80
    assert len(there.sent("openai")) == 4
    assert await there.paid() > 0


async def test_completions(there: Cloud) -> None:
    made = await there.client.completions.create(model="text", prompt="#t one", max_tokens=2)
    assert (made.choices[0].text, made.model) == ("#t one", "text")
    stream = await there.client.completions.create(
        model="text", prompt="#t one", max_tokens=2, stream=True
    )
    assert "".join([c.choices[0].text async for c in stream if c.choices]) == "#t one"
    assert len(there.sent("openai")) == 2
    assert await there.paid() == 2 * (2 * 1 + 2 * 2)


@pytest.mark.parametrize("model", ["embed", "gemini-embed", "bge"])
async def test_embeddings(there: Cloud, model: str) -> None:
    raw = await there.client.embeddings.with_raw_response.create(
        model=model, input=["one two", "three"], encoding_format="float"
    )
    made = raw.parse()
    assert (len(made.data), made.model) == (2, model)
    assert len(made.data[0].embedding) > 100
    assert raw.headers["x-headrace-served-by"].startswith("provider:")
    await there.paid(raw.headers)
    if model == "embed":
        short = await there.client.embeddings.create(model=model, input="one", dimensions=64)
        assert len(short.data[0].embedding) == 64
        await there.paid()


async def test_responses(there: Cloud) -> None:
    made = await there.client.responses.create(
        model="chat", input="#r one two", max_output_tokens=20
    )
    assert (made.output_text[:8], made.model) == ("#r one t", "chat")
    assert made.usage is not None
    stream = await there.client.responses.create(model="chat", input="#r one", stream=True)
    kinds = [event.type async for event in stream]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert len(there.sent("openai")) == 2
    assert await there.paid() > 0


async def test_messages(there: Cloud) -> None:
    url = there.house.fabric.url
    async with anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as client:
        made = await client.messages.create(
            model="claude", max_tokens=3, messages=user("#m one two")
        )
        block: Any = made.content[0]
        assert (block.text, made.model) == ("#m one two", "claude")
        async with client.messages.stream(
            model="claude", max_tokens=3, messages=user("#m one two")
        ) as stream:
            assert await stream.get_final_text() == "#m one two"
        counted = await client.messages.count_tokens(model="claude", messages=user("one two"))
        assert counted.input_tokens >= 2
    first, second, _ = there.sent("anthropic")
    assert (first.used.output, second.used.output) == (3, 3)
    assert await there.paid() > 0


@pytest.mark.parametrize("model", ["draw", "nano/banana", "imagen"])
async def test_pictures(there: Cloud, model: str) -> None:
    raw = await there.client.images.with_raw_response.generate(
        model=model, prompt="a mill", size="1024x1024"
    )
    made = raw.parse()
    assert made.data is not None
    assert made.data[0].b64_json
    assert await there.paid(raw.headers) > 0


async def test_edits(there: Cloud) -> None:
    made = await there.client.images.edit(
        model="draw", image=("a.png", PNG, "image/png"), prompt="more water", size="1024x1024"
    )
    assert made.data is not None
    assert made.data[0].b64_json
    assert there.sent("openai")[-1].files["image"] == [PNG]
    assert await there.paid() > 0


@pytest.mark.parametrize("form", ["json", "text", "srt", "verbose_json", "vtt"])
async def test_transcriptions(there: Cloud, form: Any) -> None:
    made = await there.client.audio.transcriptions.create(
        model="hear", file=("a.wav", wav(12.0)), response_format=form
    )
    assert made
    assert await there.paid() == 12 * 6000 // 60  # $0.006 a minute


async def test_a_long_recording_goes_by_reference(there: Cloud) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):  # by the client
        made = await there.client.audio.translations.create(
            model="hear", file=("a.wav", wav(60.0)), response_format="json"
        )
    assert made.text
    assert len(there.sent("openai")[-1].files["file"][0]) > 1_900_000
    assert await there.paid() == 6000


async def test_speech(there: Cloud) -> None:
    made = await there.client.audio.speech.create(model="speak", voice="alloy", input="#v hello")
    assert made.response.headers["content-type"].startswith("audio/")
    assert len(made.content) > 100
    assert await there.paid(made.response.headers) == 8 * 15


async def test_what_providers_would_lose_is_refused(there: Cloud) -> None:
    before = len(there.sims["openai"].record.requests)
    for extra in ({"grammar": "root ::= 'a'"}, {"mirostat": 2}):
        with pytest.raises(openai.BadRequestError) as caught:
            await there.client.chat.completions.create(
                model="chat", messages=user("x"), extra_body=extra
            )
        assert next(iter(extra)) in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        await there.client.embeddings.create(model="chat", input="x")
    assert caught.value.code == "unsupported_endpoint"
    with pytest.raises(openai.NotFoundError):
        await there.client.chat.completions.create(model="no-such", messages=user("x"))
    assert len(there.sims["openai"].record.requests) == before
    assert await there.paid() == 0
