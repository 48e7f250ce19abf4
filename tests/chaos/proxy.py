"""A TCP proxy in front of the broker that can be cut: then nothing passes either way.

What was sent meanwhile arrives when the cut is over, as over a real network, unless somebody gave
the connection up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """`url`: as ``nats://``, on a free port of loopback. `target`: where it leads now."""

    def __init__(self, target: Callable[[], str]) -> None:
        self.url = ""
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def cut(self, seconds: float) -> None:
        self.sever()
        await asyncio.sleep(seconds)
        self.mend()

    def sever(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            await _close(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        found = urlsplit(self._target())
        there, back = await asyncio.open_connection(found.hostname, found.port)
        both = {
            asyncio.ensure_future(self._pass(*ends)) for ends in ((reader, back), (there, writer))
        }
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.wait(both)
            await _close(back)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(2**16):
                await self._whole.wait()
                writer.write(piece)
                await writer.drain()
            await self._whole.wait()

    async def close(self) -> None:
        await asyncio.sleep(0)  # what was accepted last begins
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)  # they end with the processes they serve
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def proxy(target: Callable[[], str]) -> AsyncIterator[Proxy]:
    made = Proxy(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await made.close()
