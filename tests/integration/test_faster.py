"""The faster of two engines takes the jobs that either could have: real broker, real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from tests.fabric import PATIENCE, Fabric, Process

FAST, SLOW = 4.0, 60.0
"""Milliseconds a token: so far apart that a busy machine does not bring them together."""
IN_A_ROW = 8
"""Jobs that one engine gets with the other free: while nothing is known, they take turns."""


class Pair:
    """Two nodes, each with an engine of one slot, whose answers have twelve tokens."""

    def __init__(self, fabric: Fabric, engines: dict[str, LlamaCpp]) -> None:
        self.fabric = fabric
        self.engines = engines
        self.workers: dict[str, Process] = {}

    async def start(self) -> None:
        await self.fabric.ingress()
        # A new rank is in force once the pulls of before have ended.
        for node, engine in self.engines.items():
            settings = {"worker.node": node, "worker.pull_expires": 0.5}
            self.workers[node] = await self.fabric.worker(engine.url, settings)
        await self.fabric.slots("own", 2)

    async def ask(self) -> str:
        """Which node answered."""
        messages = [{"role": "user", "content": "hi"}]
        body = {"model": "own", "messages": messages, "max_tokens": 12}
        status, found, headers = await self.fabric.post(body)
        assert status == 200, found
        return str(headers["x-headrace-served-by"]).removeprefix("node:")

    async def first(self, node: str) -> None:
        """Ask, one by one, until this node takes one job after the other."""
        got = 0
        async with asyncio.timeout(PATIENCE):
            while got < IN_A_ROW:
                got = got + 1 if await self.ask() == node else 0

    def pace(self, node: str, token_ms: float) -> None:
        """How fast it is with the answers to come."""
        self.engines[node].engine.reset({"token_ms": token_ms})

    async def fill(self, node: str) -> asyncio.Task[str]:
        """A job that keeps the node's slot."""
        self.pace(node, 60_000.0)
        job = asyncio.create_task(self.ask())
        await self.workers[node].logged("runner.began", skip=self.begun(node))
        return job

    def begun(self, node: str) -> int:
        return self.workers[node].count("runner.began")


@pytest.fixture
async def pair(fabric: Fabric) -> AsyncIterator[Pair]:
    settings = Settings(slots=1, tokens=12)
    async with LlamaCpp(settings) as one, LlamaCpp(settings) as other:
        made = Pair(fabric, {"slow": one, "fast": other})
        made.pace("slow", SLOW)
        made.pace("fast", FAST)
        await made.start()
        await made.first("fast")
        yield made


async def test_the_slower_takes_a_job_at_once_when_the_faster_is_full(pair: Pair) -> None:
    job = await pair.fill("fast")
    assert await pair.ask() == "slow"
    assert not job.done()
    job.cancel()


async def test_the_order_turns_when_the_faster_is_slow(pair: Pair) -> None:
    pair.pace("fast", 2.5 * SLOW)
    await pair.first("slow")


async def test_the_slower_takes_over_from_a_dead_one(pair: Pair) -> None:
    await pair.workers["fast"].kill()
    assert await pair.ask() == "slow"
