"""Nodes that joined, as real processes: they are granted models, drained, evicted, and change their
keys, while requests come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.nats.broker import Broker
from schemas import nkeys, registry
from tests.fabric import Fabric, Process, ask, counts
from tests.gate import SHUT
from tests.integration.deploy.test_hub import HubSetup, opened

PATIENCE = 30.0


class Joined:
    """A fabric with a hub. `setup` changes the records of nodes."""

    def __init__(self, fabric: Fabric, setup: HubSetup, home: Path) -> None:
        self.fabric = fabric
        self.setup = setup
        self._home = home

    async def worker(self, name: str, *, models: tuple[str, ...] = (), **config: Any) -> Process:
        key = await self.setup.joined(name, models=models)
        seed = self._home / f"{name}.seed"
        seed.write_text(key.seed + "\n")
        seed.chmod(0o600)
        login = {"nats.user": "", "nats.password": "", "nats.seed": str(seed)}
        return await self.fabric.worker(config={**login, "worker.node": name, **config})

    async def until(self, name: str, **fields: object) -> None:
        """Wait until the record of a node has these fields."""
        async with asyncio.timeout(PATIENCE):
            while True:
                node = await self.setup.node(name)
                if all(getattr(node, field) == value for field, value in fields.items()):
                    return
                await asyncio.sleep(0.05)

    def public(self, name: str) -> str:
        return nkeys.read((self._home / f"{name}.seed").read_text()).public


@asynccontextmanager
async def joined_fabric(broker: Broker, fabric: Fabric, home: Path) -> AsyncIterator[Joined]:
    async with opened(broker) as setup:
        yield Joined(fabric, setup, home)


@pytest.fixture
async def joined(broker: Broker, fabric: Fabric, tmp_path: Path) -> AsyncIterator[Joined]:
    async with joined_fabric(broker, fabric, tmp_path) as made:
        await fabric.ingress()
        yield made


async def test_a_node_serves_once_it_is_granted_what_it_shows(joined: Joined) -> None:
    fabric = joined.fabric
    worker = await joined.worker("gpu", models=("echo",))
    await fabric.served("echo")
    status, answer, _ = await fabric.post(ask("hello"))
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello")
    assert (await joined.setup.node("gpu")).served == ("echo",)
    assert worker.count("consumer.pulls_lost") == 0


async def begun(fabric: Fabric, worker: Process, words: str) -> asyncio.Task[Any]:
    """A stream of these words whose first one has come, and whose others wait at gates."""
    began = asyncio.Event()
    held = ask(words, echo={"token_ms": SHUT})
    worker.open_gate(3)
    stream = asyncio.create_task(fabric.stream(held, on_text=lambda _: began.set()))
    await began.wait()
    return stream


async def test_a_drained_node_finishes_its_stream_and_gets_nothing_until_it_is_undrained(
    joined: Joined,
) -> None:
    fabric = joined.fabric
    worker = await joined.worker("gpu")
    await fabric.served("echo")
    words = " ".join(map(str, range(40)))
    stream = await begun(fabric, worker, words)
    await joined.setup.change("gpu", state=registry.DRAINED)
    await worker.logged("orders.drained")
    await fabric.served()
    waiting = asyncio.create_task(fabric.post(ask("later")))
    await fabric.jobs(2)
    worker.open_gate()
    assert await stream == (200, words, True)
    await fabric.jobs(1)
    assert not waiting.done()
    await joined.setup.change("gpu", state=registry.ACTIVE)
    status, answer, _ = await waiting
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "later")


async def test_what_an_evicted_node_had_is_gone_on_with_elsewhere(joined: Joined) -> None:
    fabric = joined.fabric
    evicted = await joined.worker("gpu")
    await fabric.served("echo")
    words = " ".join(map(str, range(60)))
    stream = await begun(fabric, evicted, words)
    other = await fabric.worker(config={"worker.node": "own"})
    other.open_gate()
    await fabric.slots("echo", 8)
    await joined.setup.change("gpu", state=registry.EVICTED)
    assert await stream == (200, words, True)
    await other.logged("runner.ended", outcome="ok")
    await evicted.logged("bus.error")
    assert evicted.count("bus.reconnected") == 0


async def test_keys_are_changed_under_load_and_no_request_is_lost(joined: Joined) -> None:
    fabric = joined.fabric
    worker = await joined.worker("gpu")
    await fabric.served("echo")
    before, done = joined.public("gpu"), asyncio.Event()

    async def load() -> int:
        count = 0
        while not done.is_set():
            text = f"request {count}"
            body = ask(text, echo={"token_ms": 5})
            status, answer, _ = await fabric.post(body)
            assert (status, answer["choices"][0]["message"]["content"]) == (200, text)
            count += 1
        return count

    loads = [asyncio.create_task(load()) for _ in range(8)]
    for _ in range(3):
        await joined.setup.change("gpu", rotate=time.time())
        await joined.until("gpu", rotate=0.0)
    await worker.logged("orders.rotated", skip=2)
    done.set()
    assert min(await asyncio.gather(*loads)) > 0
    assert joined.public("gpu") not in ("", before)
    assert (await joined.setup.node("gpu")).nkey == joined.public("gpu")
    assert await counts([worker], "bus.reconnected", 3) == [3]
    assert fabric.tracebacks() == []
