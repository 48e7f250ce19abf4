"""A queue as the official clients see it: real processes, one slow slot, the echo engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.fabric import KEY, Fabric, Process

SLOW = {"echo": {"first_ms": 1700}}
QUICK = {"echo": {"first_ms": 100}}


class Queue:
    """An ingress, a worker with one slot, and a client of each kind."""

    def __init__(self, fabric: Fabric, ingress: Process, worker: Process) -> None:
        self.fabric = fabric
        self.ingress = ingress
        self.worker = worker
        self.openai = AsyncOpenAI(base_url=fabric.url + "/v1", api_key=KEY, max_retries=0)
        self.anthropic = AsyncAnthropic(base_url=fabric.url, api_key=KEY, max_retries=0)
        self._asked = 0

    async def add(self, asking: Any) -> asyncio.Task[Any]:
        """A request that is in the queue, or runs, when this returns."""
        task = asyncio.create_task(asking)
        self._asked += 1
        await self.fabric.jobs(self._asked)
        return task

    async def chat(self, text: str, body: dict[str, Any], **more: Any) -> Any:
        return await self.openai.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": text}], extra_body=body, **more
        )

    async def message(self, text: str, body: dict[str, Any], **more: Any) -> Any:
        return await self.anthropic.messages.create(
            model="echo",
            max_tokens=2,
            messages=[{"role": "user", "content": text}],
            extra_body=body,
            **more,
        )


@pytest.fixture
async def queue(fabric: Fabric) -> AsyncIterator[Queue]:
    ingress = await fabric.ingress({"jobs.batch_patience": 4})
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    made = Queue(fabric, ingress, worker)
    async with made.openai, made.anthropic:
        yield made


async def read_openai(asked: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in await asked])


async def read_anthropic(asked: Any) -> str:
    events = [event async for event in await asked]
    assert events[0].type == "message_start"
    return "".join(event.delta.text for event in events if event.type == "content_block_delta")


async def test_streams_that_waited_are_as_any_other_to_the_clients(queue: Queue) -> None:
    """The comments on their places in the queue come before the first event."""
    running = await queue.add(queue.chat("holds the slot", SLOW))
    await queue.worker.logged("runner.began")
    chat = await queue.add(read_openai(queue.chat("a chat", SLOW, stream=True)))
    message = await queue.add(read_anthropic(queue.message("a message", QUICK, stream=True)))
    assert await chat == "a chat"
    assert await message == "a message"
    assert (await running).choices[0].message.content == "holds the slot"
    lines = [await queue.ingress.logged("request", skip=number) for number in range(3)]
    assert [line["queue_ms"] > 1000 for line in lines] == [False, True, True]


async def test_answers_say_how_long_they_waited(queue: Queue) -> None:
    running = await queue.add(queue.chat("holds the slot", SLOW))
    await queue.worker.logged("runner.began")
    asked = queue.openai.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "user", "content": "waits"}]
    )
    raw = await (await queue.add(asked))
    assert float(raw.headers["x-headrace-queue-wait"]) > 1
    assert raw.headers["x-headrace-queue-position"] == "1"
    assert raw.parse().choices[0].message.content == "waits"
    await running


async def test_flex_waits_until_the_interactive_ones_are_served_and_says_so(queue: Queue) -> None:
    ended: list[str] = []

    async def noted(asking: Any, name: str) -> Any:
        answer = await asking
        ended.append(name)
        return answer

    running = await queue.add(queue.chat("holds the slot", SLOW))
    await queue.worker.logged("runner.began")
    responses = queue.openai.responses.create(
        model="echo", input="a response", service_tier="flex", extra_body=QUICK
    )
    message = queue.message("a", {**QUICK, "service_tier": "flex"})
    flex = [
        await queue.add(noted(queue.chat("a", QUICK, service_tier="flex"), "flex chat")),
        await queue.add(noted(responses, "flex response")),
        await queue.add(noted(message, "flex message")),
    ]
    plain = [await queue.add(noted(queue.chat("b", QUICK), f"chat {n}")) for n in range(2)]
    chat, response, told = await asyncio.gather(*flex)
    assert ended == ["chat 0", "chat 1", "flex chat", "flex response", "flex message"]
    assert chat.service_tier == response.service_tier == "flex"
    assert told.usage.service_tier == "batch"
    assert [(await each).service_tier for each in plain] == [None, None]
    await running


async def test_flex_chunks_say_their_tier(queue: Queue) -> None:
    stream = await queue.chat("one two", QUICK, service_tier="flex", stream=True)
    tiers = [chunk.service_tier async for chunk in stream]
    assert len(tiers) > 2
    assert set(tiers) == {"flex"}


async def test_flex_starves_no_longer_than_is_set(queue: Queue) -> None:
    """The slot is never free, and its turn comes all the same."""
    first = await queue.add(queue.chat("first", SLOW))
    await queue.worker.logged("runner.began")
    flex = await queue.add(queue.chat("flex", QUICK, service_tier="flex"))
    stop = asyncio.Event()

    async def greedy() -> int:
        count = 0
        while not stop.is_set():
            await queue.chat("greedy", {"echo": {"first_ms": 400}})
            count += 1
        return count

    clients = [asyncio.create_task(greedy()) for _ in range(3)]
    async with asyncio.timeout(60):
        assert (await flex).choices[0].message.content == "flex"
    stop.set()
    await first
    assert sum(await asyncio.gather(*clients)) > 3
    assert queue.ingress.count("job.promoted") == 1


async def test_a_killed_worker_leaves_the_queue_as_it_is(queue: Queue) -> None:
    running = await queue.add(queue.chat("first", {"echo": {"first_ms": 60_000}}))
    await queue.worker.logged("runner.began")
    flex = await queue.add(queue.chat("flex", QUICK, service_tier="flex"))
    stream = await queue.add(read_openai(queue.chat("a stream", QUICK, stream=True)))
    await queue.worker.kill()
    running.cancel()
    worker = await queue.fabric.worker(slots=1)
    assert await stream == "a stream"
    assert (await flex).choices[0].message.content == "flex"
    assert worker.count("runner.began") >= 2


BOUND = "sk-bound-0123456789abcdef"
BOUND_KEY = f'[[keys]]\nname = "nightly"\naccount = "lab"\nlane = "b"\nsecret = "{BOUND}"\n'


async def test_a_key_that_is_bound_to_the_batch_lane_waits_for_others_of_all_ingresses(
    fabric: Fabric,
) -> None:
    """Two ingresses and two workers; the bound key asks one ingress, the others ask the other."""
    urls = [(await fabric.ingress(tables=BOUND_KEY)).url for _ in range(2)]
    workers = [await fabric.worker(slots=1) for _ in range(2)]
    clients = []
    for url, key in ((urls[0], BOUND), (urls[1], KEY)):
        await fabric.served("echo", url=url)
        clients.append(AsyncOpenAI(base_url=url + "/v1", api_key=key, max_retries=0))
    ended: list[str] = []

    async def ask(client: AsyncOpenAI, text: str, ms: float) -> None:
        await client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": text}],
            extra_body={"echo": {"first_ms": ms}},
        )
        ended.append(text)

    tasks = []

    async def add(client: AsyncOpenAI, text: str, ms: float = 300) -> None:
        tasks.append(asyncio.create_task(ask(client, text, ms)))
        await fabric.jobs(len(tasks))

    batch, interactive = clients
    for _ in workers:
        await add(interactive, "running", 2000)
    for worker in workers:
        await worker.logged("runner.began")
    for number in range(2):
        await add(batch, f"batch {number}")
    for number in range(4):
        await add(interactive, f"chat {number}")
    await asyncio.gather(*tasks)
    assert set(ended[:6]) == {"running", *(f"chat {number}" for number in range(4))}
    assert set(ended[6:]) == {"batch 0", "batch 1"}
    for client in clients:
        await client.close()
