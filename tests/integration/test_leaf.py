"""A worker behind a leaf: a nats-server elsewhere that is connected to the shared broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from deploy import home
from deploy.nats import broker as brokers
from deploy.nats import certificates, leaf
from schemas.settings import Share
from tests import forks, ports
from tests.fabric import Fabric, Process, ask, fabric, table
from tests.servers import Server, started

pytestmark = pytest.mark.asyncio(loop_scope="module")
PACED = "echo://?model=echo&slots=2&token_ms=50"
WORDS = " ".join(f"w{number}" for number in range(60))


class Site:
    """`leaf`: where workers of the other site connect."""

    def __init__(self, made: Fabric, leaf: Server) -> None:
        self.fabric = made
        self.leaf = leaf

    async def worker(self) -> Process:
        own = {"nats.url": self.leaf.url, "nats.ca": "", "worker.node": "far"}
        return await self.fabric.worker(PACED, own)

    @asynccontextmanager
    async def streamed(self) -> AsyncIterator[Process]:
        """The worker there that has a stream, which is to go on at another when the block is
        left, as that worker is silent."""
        ingress, far = self.fabric.processes[0], await self.worker()
        await self.fabric.served("echo")
        silent, began = ingress.count("worker.silent"), asyncio.Event()
        asked = asyncio.create_task(self.fabric.stream(ask(WORDS), on_text=lambda _: began.set()))
        await began.wait()
        near = await self.fabric.worker(PACED, {"worker.node": "near"})
        yield far
        await ingress.logged("worker.silent", skip=silent)
        assert await asked == (200, WORDS, True)
        await near.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    place = tmp_path_factory.mktemp("site")
    data, far = place / "data", place / "far"
    share = Share(host="127.0.0.1", port=ports.free(), leaf_port=ports.free())
    config = place / "hub.toml"
    config.write_text(table("share", {"leaf_port": share.leaf_port}))
    with brokers.start(home.broker_store(data), share=share) as hub:
        options = ("--config", str(config), "--data", str(data), "--port", "0")
        code, told, err = await forks.run("nats", "leaf", str(far), *options)
        assert (code, err) == (0, ""), told
        common = {"nats.ca": str(hub.store / certificates.CA)}
        with started(far, far / leaf.FILE) as running:
            async with fabric(hub, place, common) as made:
                # With leaves, the broker may give a job to a worker that has just gone.
                await made.ingress({"jobs.max_attempts": 6})
                yield Site(made, running)


async def test_a_worker_behind_it_serves(site: Site) -> None:
    far = await site.worker()
    await site.fabric.served("echo")
    status, body, headers = await site.fabric.post(ask("one two"))
    assert (status, body["choices"][0]["message"]["content"]) == (200, "one two")
    assert headers["x-headrace-served-by"] == "node:far"
    large = "x" * 400_000  # beyond what a job has in itself
    status, body, _ = await site.fabric.post(ask(large))
    assert status == 200, body
    assert body["choices"][0]["message"]["content"] == large
    await far.stop()


async def test_one_that_dies_is_noticed_by_its_silence(site: Site) -> None:
    """The hub hears of no connection's end but that of the leaf itself."""
    async with site.streamed() as far:
        await far.kill()


async def test_a_line_that_is_cut_moves_what_ran_there_and_comes_back(site: Site) -> None:
    async with site.streamed() as far:
        site.leaf.pause()
    site.leaf.resume()
    await site.fabric.slots("echo", 2)
    assert await far.stop() == 0
