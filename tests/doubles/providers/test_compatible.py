"""The simulators of the smaller differences, and of any simulator as a process."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from tests.doubles.providers import (
    SIMULATORS,
    Compatible,
    Groq,
    OpenRouter,
    Provider,
    Together,
    broken,
    refuse,
)

HELLO: Any = [{"role": "user", "content": "a b"}]


async def streamed(sim: Provider, model: str) -> str:
    body = {"model": model, "messages": HELLO, "stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sim.base_url}/chat/completions", json=body) as answer,
    ):
        return await answer.text()


def chunks(text: str) -> list[Any]:
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("kind", [Compatible, Groq, OpenRouter, Together])
async def test_each_talks_to_the_client(kind: type[Compatible]) -> None:
    model = next(iter(kind.known))
    async with (
        kind(key="k") as sim,
        openai.AsyncOpenAI(base_url=sim.base_url, api_key="k", max_retries=0) as client,
    ):
        made = await client.chat.completions.create(model=model, messages=HELLO)
        assert made.choices[0].message.content == "a b"
        assert made.usage is not None
        assert made.usage.total_tokens == 4
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="w").chat.completions.create(
                model=model, messages=HELLO
            )
        sim.faults.add(refuse(429, retry_after=2))
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model=model, messages=HELLO)
        assert limited.value.response.headers["retry-after"] == "2"


async def test_openrouter() -> None:
    async with OpenRouter() as sim:
        text = await streamed(sim, "openai/gpt-4o-mini")
        assert text.startswith(": OPENROUTER PROCESSING\n\n")
        assert chunks(text)[-1]["usage"]["cost"] == 4e-6
        sim.faults.add(broken(after=1))
        last = chunks(await streamed(sim, "openai/gpt-4o-mini"))[-1]
        assert last["error"]["code"] == "server_error"
        assert last["choices"][0]["finish_reason"] == "error"


async def test_groq_and_together() -> None:
    async with Groq() as groq, Together() as together:
        found = chunks(await streamed(groq, "llama-3.1-8b-instant"))
        assert "id" in found[0]["x_groq"]
        assert found[-1]["x_groq"]["usage"]["total_tokens"] == 4
        found = chunks(await streamed(together, next(iter(Together.known))))
        assert found[-1]["usage"]["completion_tokens"] == 2
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{together.base_url}/models") as answer,
        ):
            assert isinstance(await answer.json(), list)


async def test_media_go_with_their_models() -> None:
    async with (
        Groq(models=("whisper-large-v3", "some-tts")) as sim,
        openai.AsyncOpenAI(base_url=sim.base_url, api_key="k", max_retries=0) as client,
    ):
        heard = await client.audio.transcriptions.create(
            model="whisper-large-v3", file=("a.wav", bytes(16_000)), prompt="good day"
        )
        assert heard.text == "good day"
        assert sim.record.requests[0].used.seconds == 1.0
        spoken = await client.audio.speech.create(model="some-tts", voice="v", input="hi")
        assert spoken.content.startswith(b"\xff\xfb")


@pytest.mark.parametrize("name", sorted(SIMULATORS))
async def test_unknown_paths_are_refused_in_its_own_shape(name: str) -> None:
    async with SIMULATORS[name]() as sim, aiohttp.ClientSession() as session:
        async with session.post(f"{sim.url}/nowhere", json={}) as answer:
            assert answer.status == 404
            assert "error" in await answer.text()
        assert sim.record.requests[0].state == "refused"


async def test_a_process_is_controlled_over_http() -> None:
    command = (sys.executable, "-m", "tests.doubles.providers", "openai", "--key", "k")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=Path(__file__).parents[3], stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    told = json.loads(await process.stdout.readline())
    try:
        async with aiohttp.ClientSession() as session:
            await _drive(session, told["url"], told["base_url"])
    finally:
        process.terminate()
        assert await process.wait() == 0


async def _drive(session: aiohttp.ClientSession, url: str, base_url: str) -> None:
    async def control(name: str, **body: Any) -> Any:
        async with session.post(f"{url}/_sim/{name}", json=body) as answer:
            assert answer.status == 200
            return await answer.json()

    await control("pace", tokens=3)
    await control("faults", make="refuse", status=429, retry_after=1, model="gpt-4o")
    async with openai.AsyncOpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        made = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert made.choices[0].message.content == "a b a"
        assert (await control("wait", seen=2, quiet=True))["connections"] == 1
        await control("down")
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        await control("up")
    async with session.get(f"{url}/_sim/record") as answer:
        found = await answer.json()
    assert [one["state"] for one in found["requests"]] == ["refused", "finished"]
    assert found["used"]["output"] == 3
    assert (await control("clear"))["requests"] == 0
