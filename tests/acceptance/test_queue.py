"""A queue as the official clients see it: real processes, one slow slot, the echo engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.fabric import KEY, PATIENCE, Fabric, Process, counts
from tests.gate import SHUT

HELD = {"echo": {"first_ms": SHUT}}
QUICK = {"echo": {"first_ms": 100}}


class Queue:
    """An ingress, a worker with one slot, and a client of each kind."""

    def __init__(self, fabric: Fabric, ingress: Process, worker: Process) -> None:
        self.fabric = fabric
        self.ingress = ingress
        self.worker = worker
        self.openai = AsyncOpenAI(
            base_url=fabric.url + "/v1", api_key=KEY, max_retries=0, timeout=PATIENCE
        )
        self.anthropic = AsyncAnthropic(
            base_url=fabric.url, api_key=KEY, max_retries=0, timeout=PATIENCE
        )
        self._asked = 0

    async def hold(self) -> asyncio.Task[Any]:
        """A request that has the slot until the gate is opened."""
        task = await self.add(self.chat("holds the slot", HELD))
        await self.worker.logged("runner.began")
        return task

    async def add(self, asking: Any) -> asyncio.Task[Any]:
        """A request that is in the queue, or runs, when this returns. The slot must be held."""
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
def patience() -> float:
    """How long a batch job waits at most: longer than any test."""
    return 600.0


@pytest.fixture
async def queue(fabric: Fabric, patience: float) -> AsyncIterator[Queue]:
    ingress = await fabric.ingress({"jobs.batch_patience": patience})
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
    running = await queue.hold()
    chat = await queue.add(read_openai(queue.chat("a chat", QUICK, stream=True)))
    message = await queue.add(read_anthropic(queue.message("a message", QUICK, stream=True)))
    await asyncio.sleep(1.2)  # they are told of it after a second
    queue.worker.open_gate()
    assert await chat == "a chat"
    assert await message == "a message"
    assert (await running).choices[0].message.content == "holds the slot"
    for number in (1, 2):
        assert (await queue.ingress.logged("request", skip=number))["queue_ms"] > 1000


async def test_answers_say_how_long_they_waited(queue: Queue) -> None:
    running = await queue.hold()
    asked = queue.openai.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "user", "content": "waits"}]
    )
    waits = await queue.add(asked)
    await asyncio.sleep(1.2)  # the time that is told
    queue.worker.open_gate()
    raw = await waits
    assert float(raw.headers["x-headrace-queue-wait"]) > 1
    assert raw.headers["x-headrace-queue-position"] == "1"
    assert raw.parse().choices[0].message.content == "waits"
    await running


async def test_flex_waits_until_the_interactive_ones_are_served_and_says_so(queue: Queue) -> None:
    running = await queue.hold()
    chatting = queue.chat("a", QUICK, service_tier="flex", extra_headers=_named("flex-chat"))
    flex = [await queue.add(chatting)]
    responding = queue.openai.responses.create(
        model="echo",
        input="a response",
        service_tier="flex",
        extra_body=QUICK,
        extra_headers=_named("flex-response"),
    )
    flex.append(await queue.add(responding))
    body = {**QUICK, "service_tier": "flex"}
    flex.append(await queue.add(queue.message("a", body, extra_headers=_named("flex-message"))))
    plain = [
        await queue.add(queue.chat("b", QUICK, extra_headers=_named(f"chat-{n}"))) for n in range(2)
    ]
    queue.worker.open_gate()
    chat, response, told = await asyncio.gather(*flex)
    lines = [await queue.ingress.logged("request", skip=number) for number in range(1, 6)]
    ended = [line["id"] for line in lines]
    assert ended == ["chat-0", "chat-1", "flex-chat", "flex-response", "flex-message"]
    assert chat.service_tier == response.service_tier == "flex"
    assert told.usage.service_tier == "batch"
    assert [(await each).service_tier for each in plain] == [None, None]
    await running


def _named(name: str) -> dict[str, str]:
    return {"x-request-id": name}


async def test_flex_chunks_say_their_tier(queue: Queue) -> None:
    stream = await queue.chat("one two", QUICK, service_tier="flex", stream=True)
    tiers = [chunk.service_tier async for chunk in stream]
    assert len(tiers) > 2
    assert set(tiers) == {"flex"}


@pytest.mark.parametrize("patience", [4.0])
async def test_flex_starves_no_longer_than_is_set(queue: Queue) -> None:
    """The slot is never free, and its turn comes all the same."""
    first = await queue.hold()
    stop = asyncio.Event()

    async def greedy() -> int:
        count = 0
        while not stop.is_set():
            await queue.chat("greedy", {"echo": {"first_ms": 400}})
            count += 1
        return count

    clients = [asyncio.create_task(greedy()) for _ in range(6)]
    await queue.fabric.jobs(1 + len(clients))
    flex = asyncio.create_task(queue.chat("flex", QUICK, service_tier="flex"))
    queue.worker.open_gate()
    async with asyncio.timeout(PATIENCE):
        assert (await flex).choices[0].message.content == "flex"
    stop.set()
    await first
    assert sum(await asyncio.gather(*clients)) > 3
    assert await counts([queue.ingress], "job.promoted", 1) == [1]


async def test_a_killed_worker_leaves_the_queue_as_it_is(queue: Queue) -> None:
    running = await queue.hold()
    flex = await queue.add(queue.chat("flex", QUICK, service_tier="flex"))
    stream = await queue.add(read_openai(queue.chat("a stream", QUICK, stream=True)))
    await queue.worker.kill()
    running.cancel()
    worker = await queue.fabric.worker(slots=1)
    assert await stream == "a stream"
    assert (await flex).choices[0].message.content == "flex"
    await counts([worker], "runner.began", 2)


BOUND = "sk-bound-0123456789abcdef"
BOUND_KEY = f'[[keys]]\nname = "nightly"\naccount = "lab"\nlane = "b"\nsecret = "{BOUND}"\n'


async def test_a_key_that_is_bound_to_the_batch_lane_waits_for_others_of_all_ingresses(
    fabric: Fabric,
) -> None:
    """Two ingresses and two workers; the bound key asks one ingress, the others ask the other."""
    ingresses = [await fabric.ingress(tables=BOUND_KEY) for _ in range(2)]
    workers = [await fabric.worker(slots=1) for _ in range(2)]
    clients = []
    for ingress, key in zip(ingresses, (BOUND, KEY), strict=True):
        await fabric.served("echo", url=ingress.url)
        clients.append(
            AsyncOpenAI(base_url=ingress.url + "/v1", api_key=key, max_retries=0, timeout=PATIENCE)
        )
    tasks: list[asyncio.Task[Any]] = []

    async def add(client: AsyncOpenAI, ms: float = 300) -> None:
        asked = client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "hi"}],
            extra_body={"echo": {"first_ms": ms}},
        )
        tasks.append(asyncio.create_task(asked))
        await fabric.jobs(len(tasks))

    batch, interactive = clients
    for _ in workers:
        await add(interactive, SHUT)
    for worker in workers:
        await worker.logged("runner.began")
    for _ in range(2):
        await add(batch)
    for _ in range(4):
        await add(interactive)
    for worker in workers:
        worker.open_gate()
    await asyncio.gather(*tasks)
    of_the_bound = {(await ingresses[0].logged("request", skip=n))["job"] for n in range(2)}
    await counts(workers, "runner.began", len(tasks))
    began = [line for each in workers for line in each.lines if line.get("event") == "runner.began"]
    in_order = [line["job"] for line in sorted(began, key=lambda line: str(line["timestamp"]))]
    assert set(in_order[-2:]) == of_the_bound
    for client in clients:
        await client.close()
