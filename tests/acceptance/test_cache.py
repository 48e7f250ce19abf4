"""Kept answers of a real llama.cpp, with the official clients: what comes again is what came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletionMessageParam

from tests.acceptance.conftest import RealLlama
from tests.fabric import KEY, Fabric, Process

ON = {"X-Headrace-Cache": "on"}
RESULT = "x-headrace-cache"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Tell me in two sentences what a river is."}
]


class House:
    """An ingress and a worker before a real server, and two clients."""

    def __init__(self, fabric: Fabric, model: str, worker: Process) -> None:
        self.model, self.worker = model, worker
        url = fabric.url
        more: dict[str, Any] = {"api_key": KEY, "max_retries": 0, "default_headers": ON}
        self.client = openai.AsyncOpenAI(base_url=url + "/v1", **more)
        self.claude = anthropic.AsyncAnthropic(base_url=url, **more)

    async def chat(self, **fields: Any) -> tuple[str, Any]:
        """(what came of it, the answer)."""
        asked = {"temperature": 0, "max_tokens": 32, "messages": QUESTION, **fields}
        raw = await self.client.chat.completions.with_raw_response.create(model=self.model, **asked)
        return raw.headers[RESULT], raw.parse()

    async def stream(self, **fields: Any) -> tuple[str, list[Any]]:
        result, chunks = await self.chat(stream=True, **fields)
        return result, [chunk.model_dump() async for chunk in chunks]

    async def began(self) -> int:
        await self.worker.caught_up()
        return self.worker.count("runner.began")


@pytest_asyncio.fixture
async def house(fabric: Fabric, llama: RealLlama) -> AsyncIterator[House]:
    await fabric.ingress()
    worker = await fabric.worker(llama.url)
    await fabric.served(llama.model)
    made = House(fabric, llama.model, worker)
    yield made
    await made.client.close()
    await made.claude.close()


async def test_a_chat_comes_again_as_it_came(house: House) -> None:
    first, answer = await house.chat()
    again, same = await house.chat()
    assert (first, again) == ("miss", "hit")
    assert same == answer
    assert same.choices[0].message.content
    assert same.usage.completion_tokens > 0
    assert await house.began() == 1


async def test_a_stream_comes_again_event_by_event(house: House) -> None:
    options = {"stream_options": {"include_usage": True}}
    first, chunks = await house.stream(**options)
    again, same = await house.stream(**options)
    assert (first, again) == ("miss", "hit")
    assert same == chunks
    assert same[-1]["usage"]["completion_tokens"] > 0
    assert await house.began() == 1


async def test_those_who_ask_at_once_get_one_answer(house: House) -> None:
    found = await asyncio.gather(*(house.stream(seed=7, temperature=1) for _ in range(4)))
    assert sorted(result for result, _ in found) == ["hit", "hit", "hit", "miss"]
    assert all(chunks == found[0][1] for _, chunks in found)
    assert await house.began() == 1


async def test_what_is_drawn_is_drawn_anew(house: House) -> None:
    for _ in range(2):
        assert (await house.chat(temperature=0.7))[0] == "bypass"
    assert await house.began() == 2


async def test_a_message_of_anthropics_client_comes_again(house: House) -> None:
    found = []
    for _ in range(2):
        raw = await house.claude.messages.with_raw_response.create(
            model=house.model,
            max_tokens=16,
            extra_body={"temperature": 0},
            messages=[{"role": "user", "content": "Say hello."}],
        )
        found.append((raw.headers[RESULT], await raw.parse()))
    assert [result for result, _ in found] == ["miss", "hit"]
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_comes_again(house: House, stream: bool) -> None:
    found = []
    for _ in range(2):
        raw = await house.client.responses.with_raw_response.create(
            model=house.model, input="Say hello.", max_output_tokens=16, temperature=0,
            stream=stream,
        )  # fmt: skip
        parsed: Any = raw.parse()
        answer = [event async for event in parsed] if stream else parsed
        found.append((raw.headers[RESULT], answer))
    assert [result for result, _ in found] == ["miss", "hit"]
    assert found[0][1] == found[1][1]
