"""The simulator of OpenAI, through OpenAI's own client."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.doubles.providers import OpenAI, broken, refuse
from tests.doubles.sdserver.pictures import PNG

KEY = "sk-simulated-0123456789"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def sim() -> AsyncIterator[OpenAI]:
    async with OpenAI(key=KEY) as opened:
        yield opened


@pytest.fixture
async def client(sim: OpenAI) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key=KEY, max_retries=0) as opened:
        yield opened


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def wav(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(8000)
        made.writeframes(bytes(int(16_000 * seconds)))
    return out.getvalue()


async def test_chat(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    sim.pace.cached, sim.pace.reasoning = 2, 5
    raw = await client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=user("say #x now"), max_completion_tokens=2
    )
    made = raw.parse()
    assert made.model == "gpt-4o-mini-2024-07-18"
    assert made.choices[0].message.content == "#x now"
    assert made.choices[0].finish_reason == "length"
    assert made.usage is not None
    assert made.usage.prompt_tokens_details is not None
    assert made.usage.completion_tokens_details is not None
    assert (made.usage.prompt_tokens, made.usage.prompt_tokens_details.cached_tokens) == (3, 2)
    assert made.usage.completion_tokens_details.reasoning_tokens == 5
    assert (made.usage.completion_tokens, made.usage.total_tokens) == (7, 10)
    [sent] = sim.record.requests
    assert (sent.used.input, sent.used.cached, sent.used.output) == (3, 2, 7)
    for name in ("x-request-id", "openai-processing-ms", "openai-organization", "openai-version"):
        assert raw.headers[name]


@pytest.mark.parametrize("usage", [False, True])
async def test_chat_streams(sim: OpenAI, client: openai.AsyncOpenAI, usage: bool) -> None:
    sim.pace.tokens, sim.pace.per_event = 5, 2
    stream = await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=user("one two"),
        stream=True,
        stream_options={"include_usage": usage},
    )
    chunks = [chunk async for chunk in stream]
    told = [c.choices[0].delta.content for c in chunks if c.choices]
    assert told == ["", "one two", " one two", " one", None]
    totals = [c.usage.completion_tokens for c in chunks if c.usage is not None]
    assert totals == ([5] if usage else [])
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.choices for c in chunks[-1:]] == ([[]] if usage else [chunks[-1].choices])


async def test_tools_and_schemas(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    made = await client.chat.completions.create(
        model="gpt-4o-mini", messages=user("what weather is it"), tools=[WEATHER]
    )
    assert made.choices[0].finish_reason == "tool_calls"
    assert made.choices[0].message.tool_calls is not None
    called: Any = made.choices[0].message.tool_calls[0]
    assert (called.function.name, called.function.arguments) == ("weather", '{"city": "word"}')
    async with client.chat.completions.stream(
        model="gpt-4o-mini", messages=user("weather"), tools=[WEATHER]
    ) as stream:
        final: Any = await stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"city": "word"}'
    assert sim.record.requests[1].used.output == 2
    schema: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["a"]}}}
    made = await client.chat.completions.create(
        model="gpt-4o-mini", messages=user("any"), response_format=schema
    )
    assert made.choices[0].message.content == '"a"'


async def test_refusals(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    wrong = client.with_options(api_key="sk-wrong-0123456789")
    with pytest.raises(openai.AuthenticationError) as denied:
        await wrong.models.list()
    assert denied.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="no-such", messages=user("x"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="gpt-4o", messages=user("x"), temperature=3)
    assert bad.value.param == "temperature"
    sim.faults.add(refuse(429, retry_after=1.5), refuse(429, code="insufficient_quota"))
    codes = []
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="gpt-4o", messages=user("x"))
        codes.append((limited.value.code, limited.value.response.headers.get("retry-after")))
    assert codes == [("rate_limit_exceeded", "2"), ("insufficient_quota", None)]


async def test_a_stream_breaks_by_an_event(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    sim.faults.add(broken(after=1))
    stream = await client.chat.completions.create(
        model="gpt-4o", messages=user("a b c"), stream=True
    )
    got = [await anext(stream), await anext(stream)]
    assert [chunk.choices[0].delta.content for chunk in got] == ["", "a"]
    with pytest.raises(openai.APIError, match="had an error"):
        await anext(stream)


async def test_completions_and_models(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    made = await client.completions.create(model="gpt-3.5-turbo-instruct", prompt=["a b", "c"])
    assert [choice.text for choice in made.choices] == ["a b", "c"]
    assert made.usage is not None
    assert made.usage.total_tokens == 6
    stream = await client.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="a b", stream=True
    )
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "a b"
    listed = [model.id async for model in client.models.list()]
    assert "gpt-4o-mini" in listed
    assert (await client.models.retrieve("gpt-4o")).id == "gpt-4o"


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    model = "text-embedding-3-small"
    packed = await client.embeddings.create(model=model, input=["a b", "c"])
    plain = await client.embeddings.create(
        model=model, input="a b", dimensions=8, encoding_format="float"
    )
    assert [len(one.embedding) for one in packed.data] == [1536, 1536]
    assert packed.usage.prompt_tokens == 3
    assert sum(value * value for value in plain.data[0].embedding) == pytest.approx(1)


async def test_pictures(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    made = await client.images.generate(model="gpt-image-1", prompt="a cat", n=2, quality="low")
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (2, 544)
    assert made.data is not None
    assert [bool(one.b64_json) for one in made.data] == [True, True]
    assert sim.record.requests[0].used.images == 2
    with pytest.raises(openai.BadRequestError):
        await client.images.generate(
            model="gpt-image-1", prompt="a cat", response_format="b64_json"
        )
    old = await client.images.generate(model="dall-e-3", prompt="a cat")
    assert old.data is not None
    assert str(old.data[0].url).startswith(f"{sim.url}/pictures/")
    edited = await client.images.edit(model="gpt-image-1", image=PNG, prompt="a dog")
    assert edited.usage is not None
    assert edited.usage.input_tokens_details.image_tokens == 85
    events = [
        event.type
        async for event in await client.images.generate(
            model="gpt-image-1", prompt="a cat", stream=True, partial_images=1
        )
    ]
    assert events == ["image_generation.partial_image", "image_generation.completed"]


async def test_transcriptions(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    file = ("a.wav", wav(1.5))
    made = await client.audio.transcriptions.create(
        model="whisper-1", file=file, prompt="good morning"
    )
    usage: Any = made.usage
    assert (made.text, usage.type, usage.seconds) == ("good morning", "duration", 2)
    assert sim.record.requests[0].used.seconds == 1.5
    long = await client.audio.transcriptions.create(
        model="whisper-1", file=file, response_format="verbose_json"
    )
    assert (long.duration, len(long.segments or ())) == (1.5, 1)
    subtitles: Any = await client.audio.transcriptions.create(
        model="whisper-1", file=file, response_format="srt"
    )
    assert "--> 00:00:01,500" in subtitles
    stream = await client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=file, prompt="good morning", stream=True
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events[:-1]] == ["transcript.text.delta"] * 2
    assert (events[-1].text, events[-1].usage.total_tokens) == ("good morning", 19)


async def test_speech(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    made = await client.audio.speech.create(model="tts-1", voice="alloy", input="hello there")
    assert made.response.headers["content-type"] == "audio/mpeg"
    assert made.content.startswith(b"\xff\xfb")
    assert sim.record.requests[0].used.characters == 11
    events = await client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="hello", stream_format="sse"
    )
    assert b'"type":"speech.audio.done","usage":{"input_tokens":1' in events.content


async def test_responses(sim: OpenAI, client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="gpt-4o", input="say #r", max_output_tokens=1)
    assert (made.output_text, made.status) == ("#r", "incomplete")
    assert made.usage is not None
    assert made.usage.total_tokens == 3
    async with client.responses.stream(model="gpt-4o", input="say #r") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.output_text.delta") == 2
    assert final.output_text == "#r say"
    tool: Any = {**WEATHER["function"], "type": "function", "strict": False}
    called = await client.responses.create(model="gpt-4o", input="weather", tools=[tool])
    assert [item.type for item in called.output] == ["function_call"]
