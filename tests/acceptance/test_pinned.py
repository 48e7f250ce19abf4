"""Requests for certain nodes, with the official clients and at every kind of endpoint."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from tests.fabric import KEY, PATIENCE, Fabric, Process

GPU = {"X-Headrace-Node": "gpu"}
HOME = {"X-Headrace-Node": "zone=home,gpu=4090"}
NOWHERE = {"X-WAI-Node": "nowhere"}


class House:
    """Two nodes, and OpenAI's and Anthropic's clients."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.workers: dict[str, Process] = {}

    async def start(self, node: str, zone: str, gpu: str) -> None:
        config = {"worker.node": node, "worker.labels": {"zone": zone, "gpu": gpu}}
        url = "echo://?model=echo&token_ms=20"
        self.workers[node] = await self.fabric.worker(url, config)

    async def open(self) -> None:
        await self.fabric.ingress()
        await self.start("cpu", "home", "none")
        await self.start("gpu", "home", "4090")
        await self.fabric.slots("echo", 8)
        url = self.fabric.url
        self.client = openai.AsyncOpenAI(
            base_url=url + "/v1", api_key=KEY, max_retries=0, timeout=PATIENCE
        )
        self.claude = anthropic.AsyncAnthropic(
            base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE
        )

    async def until_known(self) -> None:
        """Ask for what there is not, for as long as the ingress has only just begun. Raises the
        error after that."""
        while True:
            with contextlib.suppress(openai.InternalServerError):
                await self.client.embeddings.create(
                    model="echo", input="one", extra_headers=NOWHERE
                )
            await asyncio.sleep(0.05)

    async def began(self) -> dict[str, int]:
        for worker in self.workers.values():
            await worker.caught_up()
        return {node: worker.count("runner.began") for node, worker in self.workers.items()}


@pytest_asyncio.fixture
async def house(fabric: Fabric) -> AsyncIterator[House]:
    made = House(fabric)
    await made.open()
    yield made
    await made.client.close()
    await made.claude.close()


async def test_each_endpoint_sends_its_requests_to_the_node(house: House) -> None:
    client, claude = house.client, house.claude
    words: Any = [{"role": "user", "content": "one two"}]
    before = await house.began()
    for headers in (GPU, HOME):
        chat = await client.chat.completions.create(
            model="echo",
            messages=words,
            n=2,
            extra_headers=headers,
        )
        assert [each.message.content for each in chat.choices] == ["one two"] * 2
        stream: Any = await client.chat.completions.create(
            model="echo",
            messages=words,
            stream=True,
            extra_headers=headers,
        )
        got = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(got) == "one two"
        answer = await client.responses.create(
            model="echo", input="one two", store=False, extra_headers=headers
        )
        assert answer.output_text == "one two"
        await client.embeddings.create(model="echo", input="one", extra_headers=headers)
        said = await claude.messages.create(
            model="echo",
            max_tokens=9,
            messages=words,
            extra_headers=headers,
        )
        assert said.content[0].type == "text"
        ollama = {"model": "echo", "messages": words, "stream": False}
        url, own = house.fabric.url + "/api/chat", {**house.fabric.headers, **headers}
        async with house.fabric.session.post(url, json=ollama, headers=own) as found:
            assert (await found.json())["message"]["content"] == "one two"
    after = await house.began()
    assert after["cpu"] == before["cpu"]
    assert after["gpu"] - before["gpu"] >= 12


async def test_a_node_that_there_is_not_is_told_at_each_endpoint(house: House) -> None:
    client = house.client
    words: Any = [{"role": "user", "content": "one"}]
    with pytest.raises(openai.NotFoundError):
        await house.until_known()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: client.chat.completions.create(model="echo", messages=words, extra_headers=NOWHERE),
        lambda: client.completions.create(model="echo", prompt="one", extra_headers=NOWHERE),
        lambda: client.responses.create(model="echo", input="one", extra_headers=NOWHERE),
        lambda: client.embeddings.create(model="echo", input="one", extra_headers=NOWHERE),
        lambda: client.images.generate(model="echo", prompt="one", extra_headers=NOWHERE),
        lambda: client.audio.speech.create(
            model="echo", voice="x", input="one", extra_headers=NOWHERE
        ),
        lambda: client.audio.transcriptions.create(
            model="echo", file=("a.wav", b"RIFF"), extra_headers=NOWHERE
        ),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as caught:
            await call()
        assert caught.value.code == "node_not_found"
        assert "Known nodes: cpu, gpu" in caught.value.message


async def test_a_stream_goes_on_at_its_node_when_that_is_back(house: House) -> None:
    """The node is killed in the middle; the other one, which is idle, never has it."""
    words: Any = [{"role": "user", "content": " ".join(f"word{number}" for number in range(40))}]
    stream: Any = await house.client.chat.completions.create(
        model="echo",
        messages=words,
        stream=True,
        extra_headers=GPU,
    )
    got: list[str] = []
    again: asyncio.Task[None] | None = None
    async for chunk in stream:
        got += [choice.delta.content or "" for choice in chunk.choices]
        if again is None and len(got) > 5:
            await house.workers["gpu"].kill()
            with pytest.raises(openai.InternalServerError) as caught:
                await _until_away(house)
            assert (caught.value.status_code, caught.value.code) == (503, "no_worker")
            assert int(caught.value.response.headers["retry-after"]) >= 1
            again = asyncio.create_task(house.start("gpu", "home", "4090"))
    assert again is not None
    await again
    assert "".join(got) == words[0]["content"]
    assert await house.began() == {"cpu": 0, "gpu": 1}


async def _until_away(house: House) -> None:
    """Ask for the node until the ingress knows that it is gone; what is asked before waits for
    it."""
    await house.fabric.processes[0].logged("worker.lost")
    words: Any = [{"role": "user", "content": "one"}]
    await house.client.chat.completions.create(
        model="echo",
        messages=words,
        extra_headers=GPU,
    )
