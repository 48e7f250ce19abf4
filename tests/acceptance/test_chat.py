"""The main job with nothing simulated: the official SDK, real processes, a real model."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.acceptance.conftest import RealLlama
from tests.fabric import KEY, Fabric, Process, first_to_log

QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
]
COUNT: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Write a very long story about a river."}
]
NOT_COMPARED = ("id", "created", "timings")


@pytest.fixture
async def served(fabric: Fabric, llama: RealLlama) -> Fabric:
    """An ingress and one worker in front of the real server."""
    await fabric.ingress()
    await fabric.worker(llama.url)
    await fabric.served(llama.model)
    return fabric


@pytest.fixture
async def client(served: Fabric) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key=KEY) as made:
        yield made


async def test_models(client: openai.AsyncOpenAI, llama: RealLlama) -> None:
    listed = await client.models.list()
    assert [model.id for model in listed.data] == [llama.model]
    assert (await client.models.retrieve(llama.model)).id == llama.model


async def test_the_sync_client_not_streamed(served: Fabric, llama: RealLlama) -> None:
    def call() -> Any:
        with openai.OpenAI(base_url=served.url + "/v1", api_key=KEY) as client:
            return client.chat.completions.create(
                model=llama.model, messages=QUESTION, max_tokens=24, temperature=0
            )

    answer = await asyncio.to_thread(call)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_sync_client_streamed(served: Fabric, llama: RealLlama) -> None:
    def call() -> list[Any]:
        with openai.OpenAI(base_url=served.url + "/v1", api_key=KEY) as client:
            return list(
                client.chat.completions.create(
                    model=llama.model,
                    messages=QUESTION,
                    max_tokens=24,
                    temperature=0,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )

    chunks = await asyncio.to_thread(call)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "Paris" in text
    assert chunks[-1].usage.completion_tokens > 3
    assert len(chunks) > 5, "token by token"


async def test_the_same_answer_as_the_engine_gives(served: Fabric, llama: RealLlama) -> None:
    """Not streamed: the aggregated document is the one that the engine would have written."""
    body = {"messages": QUESTION, "max_tokens": 16, "temperature": 0, "seed": 1, "logprobs": True}
    body = {**body, "model": llama.model, "cache_prompt": False}
    status, ours, _ = await served.post(body)
    direct_status, raw = await asyncio.to_thread(llama.post, "/v1/chat/completions", body)
    theirs = json.loads(raw)
    for answer in (ours, theirs):
        for name in NOT_COMPARED:
            answer.pop(name)
        answer["choices"][0].pop("logprobs")  # the end token has none in a stream
    assert (status, ours) == (direct_status, theirs)


async def test_stop_and_seed(client: openai.AsyncOpenAI, llama: RealLlama) -> None:
    async def ask(**more: Any) -> Any:
        return await client.chat.completions.create(
            model=llama.model, messages=COUNT, max_tokens=12, **more
        )

    stopped = await ask(temperature=0, stop=["river"])
    assert "river" not in stopped.choices[0].message.content
    one, two = await ask(seed=7, temperature=1.0), await ask(seed=7, temperature=1.0)
    assert one.choices[0].message.content == two.choices[0].message.content
    assert one.choices[0].finish_reason == "length"


async def test_twenty_chats_at_once_on_four_slots(
    client: openai.AsyncOpenAI, llama: RealLlama
) -> None:
    async def one(number: int) -> str:
        text = ""
        stream = await client.chat.completions.create(
            model=llama.model,
            messages=[{"role": "user", "content": f"Say the number {number} and stop."}],
            max_tokens=8,
            temperature=0,
            stream=True,
        )
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        return text

    answers = await asyncio.gather(*(one(number) for number in range(20)))
    assert all(answers)


async def _busy(llama: RealLlama) -> int:
    _, raw = await asyncio.to_thread(llama.get, "/slots")
    return sum(slot["is_processing"] for slot in json.loads(raw))


@pytest.mark.parametrize("stream", [True, False])
async def test_client_that_leaves_frees_the_slot(
    served: Fabric, llama: RealLlama, stream: bool
) -> None:
    worker = served.processes[-1]
    asked = asyncio.create_task(
        served.post({"model": llama.model, "messages": COUNT, "stream": stream})
    )
    await worker.logged("runner.began")
    while not await _busy(llama):
        await asyncio.sleep(0)
    asked.cancel()
    left = time.monotonic()
    while await _busy(llama):
        await asyncio.sleep(0)
    took = time.monotonic() - left
    await worker.logged("runner.ended", verdict="+TERM")
    assert took < 10, f"the slot was free after {took * 1000:.0f} ms; the answer takes a minute"


async def test_engine_refusals_reach_the_client_as_they_are(
    served: Fabric, llama: RealLlama
) -> None:
    body: dict[str, Any] = {
        "model": llama.model,
        "messages": QUESTION,
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}},
    }
    _, raw = await asyncio.to_thread(llama.post, "/v1/chat/completions", body)
    for stream in (False, True):
        status, ours, _ = await served.post({**body, "stream": stream})
        assert status == 400
        assert ours["error"]["message"]
    assert json.loads(raw)["error"]["code"] == 400


async def test_context_exceeded(client: openai.AsyncOpenAI, llama: RealLlama) -> None:
    long: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 9000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model=llama.model, messages=long, stream=stream)
        assert caught.value.code == "context_length_exceeded"
        assert caught.value.type == "exceed_context_size_error", "llama-server's own word"


async def _two(fabric: Fabric, llama: RealLlama, config: dict[str, float]) -> list[Process]:
    await fabric.ingress(config)
    workers = [await fabric.worker(llama.url, config, slots=2) for _ in range(2)]
    await fabric.served(llama.model)
    return workers


LONG_PROMPT = "Tell me about water. " * 25


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_worker_lost_before_the_first_token(
    fabric: Fabric, llama: RealLlama, blow: signal.Signals
) -> None:
    """The end of its connection tells of a killed one long before its silence would."""
    wait = 60.0 if blow == signal.SIGKILL else 3.0
    workers = await _two(fabric, llama, {"ingress.silence": wait, "jobs.ack_wait": wait})
    body = {
        "model": llama.model,
        "messages": [{"role": "user", "content": LONG_PROMPT}],
        "max_tokens": 8,
        "cache_prompt": False,
    }
    asked = asyncio.create_task(fabric.post(body))
    victim = await first_to_log(workers, "runner.began")
    struck = time.monotonic()
    workers[victim].signal(blow)
    await workers[1 - victim].logged("runner.began", attempt=2)
    took = time.monotonic() - struck
    status, answer, headers = await asked
    assert (status, answer["object"]) == (200, "chat.completion")
    assert took < 30, f"{took:.2f} s"
    assert headers["x-headrace-served-by"].startswith("node:")


async def test_broker_restart_under_real_load(served: Fabric, llama: RealLlama) -> None:
    body = {"model": llama.model, "messages": COUNT, "max_tokens": 40, "temperature": 0}
    asked = [asyncio.create_task(served.stream(body)) for _ in range(6)]
    await served.processes[-1].logged("runner.began", skip=3)
    await asyncio.to_thread(served.broker.kill)
    await asyncio.to_thread(served.broker.restart)
    answers = await asyncio.gather(*asked)
    assert all(status == 200 and done for status, _, done in answers)
    await served.idle()
