"""Networks that fail between a worker and the broker: nothing comes through, and nobody is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from schemas.api import endpoints
from tests.chaos.proxy import Proxy, proxy
from tests.fabric import Fabric, Process, ask
from tests.integration.test_takeover import PACED, USER, WORDS, Watched, said


class Wired:
    """Two workers, each behind a proxy of its own, and a stream whose holder's is cut."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.proxies: dict[Process, Proxy] = {}
        self.holder: Process | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        await self._fabric.ingress()
        for _ in range(2):
            made = await stack.enter_async_context(proxy(lambda: self._fabric.broker.url))
            worker = await self._fabric.worker(PACED, {"nats.url": made.url})
            self.proxies[worker] = made
        await self._fabric.served("echo")
        self.stream = Watched(self._fabric, [*self.proxies], endpoints.CHAT.path)

    async def cut(self, stream: Watched) -> None:
        self.holder = await stream.holder()
        self.proxies[self.holder].sever()

    def mend(self) -> None:
        assert self.holder
        self.proxies[self.holder].mend()

    @property
    def other(self) -> Process:
        return next(worker for worker in self.proxies if worker is not self.holder)

    async def is_back(self) -> None:
        """The worker behind the cut serves, and does so alone."""
        await self.other.kill()
        assert (await self._fabric.post(ask("still here")))[0] == 200
        await self._fabric.idle()


@pytest.fixture
async def wired(fabric: Fabric) -> AsyncIterator[Wired]:
    made = Wired(fabric)
    async with AsyncExitStack() as stack:
        await made.start(stack)
        yield made
        for worker, cut in made.proxies.items():
            cut.mend()
            await worker.reap()


async def test_a_short_cut_is_a_pause(wired: Wired) -> None:
    """Of a second: nobody is called lost before three."""

    async def cut(stream: Watched) -> None:
        await wired.cut(stream)
        asyncio.get_running_loop().call_later(1, wired.mend)

    assert said(await wired.stream.run({"messages": [USER]}, {6: cut})) == WORDS
    await wired.is_back()


async def test_late_frames_change_nothing(wired: Wired) -> None:
    """The stream is taken over; then what the worker said behind the cut arrives."""

    async def mend(_: Watched) -> None:
        wired.mend()
        assert wired.holder
        await wired.holder.logged("runner.ended")

    assert said(await wired.stream.run({"messages": [USER]}, {6: wired.cut, 20: mend})) == WORDS
    await wired.is_back()


async def test_a_worker_whose_connection_broke_comes_back_by_itself(wired: Wired) -> None:
    assert said(await wired.stream.run({"messages": [USER]}, {6: wired.cut})) == WORDS
    assert wired.holder
    await wired.holder.logged("bus.disconnected")
    wired.mend()
    await wired.holder.logged("bus.reconnected")
    await wired.is_back()
