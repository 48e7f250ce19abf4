"""The simulator of Google, on both of its surfaces."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from tests.doubles.providers import Google, broken, refuse

KEY = "AIza-simulated"
MODEL = "gemini-2.5-flash"


@pytest.fixture
async def sim() -> AsyncIterator[Google]:
    async with Google(key=KEY) as opened:
        yield opened


@pytest.fixture
async def client(sim: Google) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key=KEY, max_retries=0) as opened:
        yield opened


@pytest.fixture
async def native() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"x-goog-api-key": KEY}) as opened:
        yield opened


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def contents(text: str, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


async def call(
    sim: Google, native: aiohttp.ClientSession, model: str, verb: str, body: Any
) -> tuple[int, str]:
    url = f"{sim.url}/v1beta/models/{model}:{verb}"
    async with native.post(url, json=body) as answer:
        return answer.status, await answer.text()


async def test_the_compatible_chat_keeps_thoughts_apart(
    sim: Google, client: openai.AsyncOpenAI
) -> None:
    sim.pace.reasoning = 4
    made = await client.chat.completions.create(model=f"models/{MODEL}", messages=user("a b"))
    assert made.usage is not None
    assert made.choices[0].message.content == "a b"
    told = (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens)
    assert told == (2, 2, 8)
    assert sim.record.requests[0].used.output == 6


async def test_the_compatible_stream_tells_the_usage_so_far(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=user("a b"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [1, 2, 2]
    assert [c.choices[0].delta.role for c in chunks] == ["assistant"] * 3


async def test_compatible_errors_are_arrays(sim: Google, client: openai.AsyncOpenAI) -> None:
    sim.faults.add(refuse(429, retry_after=30))
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model=MODEL, messages=user("x"))
    [found] = limited.value.response.json()
    assert found["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert found["error"]["details"][-1]["retryDelay"] == "30s"
    with pytest.raises(openai.BadRequestError) as strange:
        await client.chat.completions.create(model=MODEL, messages=user("x"), store=False)
    assert 'Unknown name "store"' in strange.value.response.json()[0]["error"]["message"]
    with pytest.raises(openai.BadRequestError) as denied:
        await client.with_options(api_key="wrong").models.list()
    [found] = denied.value.response.json()
    assert found["error"]["details"][0]["reason"] == "API_KEY_INVALID"


async def test_the_compatible_surface_wants_a_bearer(
    sim: Google, native: aiohttp.ClientSession
) -> None:
    url = f"{sim.base_url}/chat/completions?key={KEY}"
    async with native.post(url, json={"model": MODEL, "messages": user("x")}) as answer:
        assert answer.status == 400
        [found] = json.loads(await answer.text())
    assert found["error"]["message"] == "Missing or invalid Authorization header."


async def test_a_compatible_stream_calls_tools_its_own_way(
    sim: Google, native: aiohttp.ClientSession
) -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    body = {"model": MODEL, "messages": user("weather"), "tools": [tool], "stream": True}
    url, headers = f"{sim.base_url}/chat/completions", {"Authorization": f"Bearer {KEY}"}
    async with native.post(url, json=body, headers=headers) as answer:
        lines = (await answer.text()).split("\n\n")
    called, finish = (json.loads(line[6:])["choices"][0] for line in lines[:2])
    function = {"name": "weather", "arguments": "{}"}
    assert called["delta"]["tool_calls"] == [{"function": function, "id": "", "type": "function"}]
    assert finish["finish_reason"] == "stop"
    body["stream"] = False
    async with native.post(url, json=body, headers=headers) as answer:
        assert (await answer.json())["choices"][0]["finish_reason"] == "tool_calls"


async def test_compatible_others(client: openai.AsyncOpenAI) -> None:
    vectors = await client.embeddings.create(model="gemini-embedding-001", input="a", dimensions=4)
    assert len(vectors.data[0].embedding) == 4
    drawn = await client.images.generate(
        model="imagen-4.0-generate-001", prompt="a cat", response_format="b64_json"
    )
    assert drawn.data is not None
    assert drawn.data[0].b64_json
    assert (await anext(aiter(client.models.list()))).id == f"models/{MODEL}"


async def test_generate(sim: Google, native: aiohttp.ClientSession) -> None:
    sim.pace.reasoning = 3
    body = contents("one two three", generationConfig={"maxOutputTokens": 2})
    status, text = await call(sim, native, MODEL, "generateContent", body)
    found = json.loads(text)
    assert status == 200
    assert found["candidates"][0]["content"]["parts"] == [{"text": "one two"}]
    assert found["candidates"][0]["finishReason"] == "MAX_TOKENS"
    usage = found["usageMetadata"]
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"]) == (2, 3)
    assert usage["totalTokenCount"] == 8
    assert sim.record.requests[0].model == MODEL


async def test_generate_streams(sim: Google, native: aiohttp.ClientSession) -> None:
    verb = "streamGenerateContent"
    _, text = await call(sim, native, MODEL, f"{verb}?alt=sse", contents("a b"))
    assert text.endswith("\r\n\r\n")
    events = [json.loads(line[6:]) for line in text.split("\r\n\r\n") if line]
    parts = [event["candidates"][0]["content"]["parts"][0]["text"] for event in events]
    assert parts == ["a", " b"]
    assert "finishReason" not in events[0]["candidates"][0]
    assert events[1]["candidates"][0]["finishReason"] == "STOP"
    _, text = await call(sim, native, MODEL, verb, contents("a b"))
    assert len(json.loads(text)) == 2
    sim.faults.add(broken(after=1, status=503))
    _, text = await call(sim, native, MODEL, f"{verb}?alt=sse", contents("a b"))
    assert json.loads(text.split("\r\n\r\n")[1][6:])["error"]["status"] == "UNAVAILABLE"


async def test_pictures(sim: Google, native: aiohttp.ClientSession) -> None:
    _, text = await call(sim, native, "gemini-2.5-flash-image", "generateContent", contents("cat"))
    found = json.loads(text)
    assert found["candidates"][0]["content"]["parts"][0]["inlineData"]["mimeType"] == "image/png"
    assert found["usageMetadata"]["candidatesTokenCount"] == 1290
    body = {"instances": [{"prompt": "cat"}], "parameters": {"sampleCount": 2}}
    _, text = await call(sim, native, "imagen-4.0-generate-001", "predict", body)
    assert len(json.loads(text)["predictions"]) == 2
    assert [one.used.images for one in sim.record.requests] == [1, 2]


async def test_blocks_and_errors(sim: Google, native: aiohttp.ClientSession) -> None:
    sim.blocked, sim.unsafe = {"evil"}, {"edgy"}
    _, text = await call(sim, native, MODEL, "generateContent", contents("some evil"))
    assert json.loads(text)["promptFeedback"]["blockReason"] == "SAFETY"
    assert "candidates" not in json.loads(text)
    _, text = await call(sim, native, MODEL, "generateContent", contents("some edgy"))
    assert json.loads(text)["candidates"][0]["finishReason"] == "SAFETY"
    status, text = await call(sim, native, "nothing", "generateContent", contents("x"))
    assert (status, json.loads(text)["error"]["status"]) == (404, "NOT_FOUND")
    async with aiohttp.ClientSession() as keyless:
        status, text = await call(sim, keyless, MODEL, "generateContent", contents("x"))
    assert (status, json.loads(text)["error"]["status"]) == (403, "PERMISSION_DENIED")
