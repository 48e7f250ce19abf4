"""Networks that fail between a worker and the broker: nothing comes through, and nobody is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from schemas.api import endpoints
from tests.chaos.proxy import Proxy, proxy
from tests.fabric import Fabric, Process, ask
from tests.integration.test_takeover import GATED, USER, WORDS, Watched, said

LONG_CUTS = [float(each) for each in os.environ.get("HEADRACE_CUTS", "5").split(",")]
"""Seconds. HEADRACE_CUTS=60 tries a minute, which takes too long for every run."""


class Wired:
    """Two workers, each behind a proxy of its own, and a stream whose holder's is cut."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.proxies: dict[Process, Proxy] = {}
        self.holder: Process | None = None
        self.mended = asyncio.Event()

    async def start(self, stack: AsyncExitStack) -> None:
        await self._fabric.ingress()
        for _ in range(2):
            made = await stack.enter_async_context(proxy(lambda: self._fabric.broker.url))
            worker = await self._fabric.worker(GATED, {"nats.url": made.url})
            self.proxies[worker] = made
        await self._fabric.served("echo")
        self.stream = Watched(self._fabric, [*self.proxies], endpoints.CHAT.path)

    async def cut(self, stream: Watched) -> None:
        self.holder = await stream.holder()
        self.proxies[self.holder].sever()
        self.holder.open_gate()  # it goes on behind the cut

    async def text(self, mended_after: float) -> str:
        """What a stream said whose holder was cut off for so many seconds."""

        async def cut(stream: Watched) -> None:
            await self.cut(stream)
            asyncio.get_running_loop().call_later(mended_after, self.mend)

        return said(await self.stream.run({"messages": [USER]}, {6: cut}))

    def mend(self) -> None:
        assert self.holder
        self.mended.set()
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
    assert await wired.text(mended_after=1) == WORDS
    await wired.is_back()


@pytest.mark.parametrize("seconds", LONG_CUTS)
async def test_a_long_cut_costs_no_stream_and_no_worker(wired: Wired, seconds: float) -> None:
    """The stream is taken over long before, and the worker finds the way back."""
    assert await wired.text(mended_after=seconds) == WORDS
    await wired.mended.wait()
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
