"""The simulator of Cloudflare Workers AI."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from tests.doubles.providers import Cloudflare, refuse

KEY = "cf-simulated"
MODEL = "@cf/meta/llama-3.1-8b-instruct"
BGE = "@cf/baai/bge-base-en-v1.5"


@pytest.fixture
async def sim() -> AsyncIterator[Cloudflare]:
    async with Cloudflare(key=KEY) as opened:
        yield opened


@pytest.fixture
async def client(sim: Cloudflare) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key=KEY, max_retries=0) as opened:
        yield opened


async def run(sim: Cloudflare, model: str, body: Any, key: str = KEY) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(sim.run_url + model, json=body) as answer,
    ):
        return answer.status, await answer.read()


async def test_the_compatible_endpoints(sim: Cloudflare, client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "a b"}], stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert [c.usage.total_tokens for c in chunks if c.usage] == [4]
    assert chunks[-1].choices[0].finish_reason == "stop"
    vectors = await client.embeddings.create(model=BGE, input=["a", "b"])
    assert [len(one.embedding) for one in vectors.data] == [768, 768]
    assert [one.model for one in sim.record.requests] == [MODEL, BGE]


async def test_errors_have_the_envelope(sim: Cloudflare, client: openai.AsyncOpenAI) -> None:
    wrong = client.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError) as denied:
        await wrong.embeddings.create(model=BGE, input="a")
    assert denied.value.response.json() == {
        "result": None,
        "success": False,
        "errors": [{"message": "Authentication error", "code": 10000}],
        "messages": [],
    }
    sim.faults.add(refuse(429), refuse(429, code="3036"))
    codes = []
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as limited:
            await client.embeddings.create(model=BGE, input="a")
        codes.append(limited.value.response.json()["errors"][0]["code"])
    assert codes == [3040, 3036]
    with pytest.raises(openai.BadRequestError) as unknown:
        await client.embeddings.create(model="@cf/no/such", input="a")
    assert unknown.value.response.json()["errors"][0]["code"] == 5007


async def test_run(sim: Cloudflare) -> None:
    _, raw = await run(sim, MODEL, {"prompt": "a b"})
    found = json.loads(raw)
    assert found["success"] is True
    assert found["result"]["response"] == "a b"
    assert found["result"]["usage"]["total_tokens"] == 4
    _, raw = await run(sim, MODEL, {"prompt": "a b", "stream": True})
    lines = [line[6:] for line in raw.split(b"\n\n") if line]
    assert [json.loads(line)["response"] for line in lines[:-1]] == ["a", " b", ""]
    assert lines[-1] == b"[DONE]"
    _, raw = await run(sim, BGE, {"text": ["a", "b", "c"]})
    assert json.loads(raw)["result"]["shape"] == [3, 768]
    assert sim.record.requests[2].model == BGE


async def test_run_media(sim: Cloudflare) -> None:
    flux, diffusion = sorted(name for name in sim.models if "flux" in name or "xl" in name)
    _, raw = await run(sim, flux, {"prompt": "a cat"})
    assert base64.b64decode(json.loads(raw)["result"]["image"]).startswith(b"\x89PNG")
    _, raw = await run(sim, diffusion, {"prompt": "a cat"})
    assert raw.startswith(b"\x89PNG")
    audio = base64.b64encode(bytes(16_000)).decode()
    _, raw = await run(sim, "@cf/openai/whisper-large-v3-turbo", {"audio": audio})
    assert json.loads(raw)["result"]["word_count"] == 3
    assert sim.record.requests[2].used.seconds == 1.0
