"""Brokers that die, move and come back, alone and as a cluster, under real processes."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy import home
from deploy.nats import broker as brokers
from schemas import settings
from tests import forks
from tests.cluster import Cluster, cluster
from tests.fabric import Fabric, Process, ask, fabric, read_until

PACED = "echo://?model=echo&slots=4&token_ms=10"
WORDS = " ".join(f"w{number}" for number in range(40))


class Load:
    """Clients of all ingresses that ask again and again, half of them for streams, and check each
    answer."""

    def __init__(self, fabric: Fabric, clients: int) -> None:
        self._fabric = fabric
        self._ingresses = [each.url for each in fabric.processes if each.url]
        self._workers = [each for each in fabric.processes if not each.url]
        self._clients = [asyncio.create_task(self._ask(number)) for number in range(clients)]
        self._enough = False

    async def _ask(self, number: int) -> None:
        url = self._ingresses[number % len(self._ingresses)]
        while not self._enough:
            if number % 4 < 2:
                assert await self._fabric.stream(ask(WORDS), url) == (200, WORDS, True)
                continue
            status, body, _ = await self._fabric.post(ask(WORDS), url)
            assert status == 200, body
            assert body["choices"][0]["message"]["content"] == WORDS

    async def under_way(self) -> None:
        """Wait until each worker has begun a job since now. Raises what a client found wrong."""
        before = {each: each.count("runner.began") for each in self._workers}

        def begun() -> bool:
            return all(each.count("runner.began") > count for each, count in before.items())

        going = asyncio.create_task(read_until(begun, self._workers))
        await asyncio.wait({going, *self._clients}, return_when=asyncio.FIRST_COMPLETED)
        if not going.done():
            going.cancel()
            await asyncio.gather(*self._clients)
        await going

    async def end(self) -> None:
        self._enough = True
        await asyncio.gather(*self._clients)
        await self._fabric.idle()


async def crowd(fabric: Fabric) -> Load:
    await asyncio.gather(fabric.ingress(), fabric.ingress())
    await asyncio.gather(fabric.worker(PACED), fabric.worker(PACED))
    for ingress in fabric.processes[:2]:
        await fabric.served("echo", url=ingress.url)
    return Load(fabric, 12)


async def test_a_broker_killed_under_load_loses_nothing(fabric: Fabric) -> None:
    load = await crowd(fabric)
    await load.under_way()
    await asyncio.to_thread(fabric.broker.kill)
    await asyncio.to_thread(fabric.broker.restart)
    await load.under_way()
    await load.end()


async def test_a_disk_that_is_full_refuses_what_is_new_and_cuts_nothing(fabric: Fabric) -> None:
    """Simulated by the largest size that a file of the broker may have. After a failed write, the
    broker says nothing to a publish until it is started again."""
    await fabric.ingress({"ingress.broker_wait": 1.0})
    await fabric.worker(PACED)
    await fabric.served("echo")
    got, words = asyncio.Event(), " ".join([WORDS] * 20)
    asked = asyncio.create_task(fabric.stream(ask(words), on_text=lambda _: got.set()))
    await got.wait()
    limit = 1, resource.RLIM_INFINITY
    resource.prlimit(fabric.broker.pid, resource.RLIMIT_FSIZE, limit)
    status, body, _ = await fabric.post(ask("too much"))
    assert (status, body["error"]["code"]) == (503, "broker_unavailable")
    assert await asked == (200, words, True)
    await asyncio.to_thread(fabric.broker.restart)
    assert (await fabric.post(ask("room again")))[0] == 200
    await fabric.idle()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "cluster") as running:
        yield running


async def test_a_cluster_whose_brokers_die_one_by_one_loses_nothing(
    three: Cluster, tmp_path: Path
) -> None:
    """The one that leads the queue is killed; it and the others are restarted in turn."""
    common = {"nats.url": three.url, "nats.replicas": 3, "ingress.broker_wait": 60.0}
    async with fabric(three.brokers[0], tmp_path, common) as made:
        load = await crowd(made)
        await load.under_way()
        leader = await asyncio.to_thread(three.leader, "JOBS")
        await asyncio.to_thread(leader.kill)
        await load.under_way()
        for each in (leader, *(other for other in three.brokers if other is not leader)):
            await asyncio.to_thread(each.restart)
            await load.under_way()
        await load.end()


@asynccontextmanager
async def worker_of(data: Path) -> AsyncIterator[Process]:
    """A worker that looks for the broker of `headrace up` on `data`, has found it, and waits for an
    ingress to make the queue."""
    command = ["worker", "--data", str(data), "--engine", "echo://?model=echo"]
    process = Process("worker", await forks.start(command, settings.outside()))
    try:
        await process.logged("consumer.awaited")
        yield process
    finally:
        await process.reap()


async def test_a_worker_beside_up_follows_the_broker_to_another_port(tmp_path: Path) -> None:
    store = home.broker_store(tmp_path)
    async with AsyncExitStack() as stack:
        with brokers.start(store, 0, 0) as first:
            worker = await stack.enter_async_context(worker_of(tmp_path))
        port = urlsplit(first.url).port or 0
        stack.enter_context(socket.create_server(("127.0.0.1", port)))  # somebody else has it now
        moved = stack.enter_context(brokers.start(store, port, 0))
        assert moved.url != first.url
        await worker.logged("bus.reconnected")
        assert (await worker.stop(), worker.noise) == (0, [])


async def test_a_worker_without_a_broker_says_so_and_ends_when_told(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        with brokers.start(home.broker_store(tmp_path), 0, 0) as broker:
            worker = await stack.enter_async_context(worker_of(tmp_path))
        line = await worker.logged("bus.error", url=broker.url, skip=1)
        assert "ConnectionRefusedError" in line["error"]
        assert (await worker.stop(), worker.noise) == (0, [])
