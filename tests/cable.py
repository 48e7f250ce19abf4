"""A cable between a process and the broker that can be cut, as when a network fails: nothing comes
through, not even the end of a connection, and nobody is told. What was sent meanwhile arrives once
the cable is mended, as TCP repeats it, unless one of the two has given up the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Cable:
    def __init__(self, broker: str) -> None:
        at = urlsplit(broker)
        self._far = at.hostname, at.port
        self._whole = asyncio.Event()
        self._whole.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.url = ""

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a process with the broker until one of them ends the connection."""
        await self._whole.wait()
        far_reader, far_writer = await asyncio.open_connection(*self._far)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(2**16):
                await self._whole.wait()
                sink.write(data)
                await sink.drain()
        await self._whole.wait()
        sink.close()
        with suppress(OSError):
            await sink.wait_closed()

    async def end(self) -> None:
        """Wait until all connections have ended, as those of killed processes do."""
        while self._pumps:
            await asyncio.wait(self._pumps)


@asynccontextmanager
async def cable(broker: str) -> AsyncIterator[Cable]:
    """A whole one, to be used by its `url`. Leave it once the processes that use it have ended."""
    made = Cable(broker)
    server = await asyncio.start_server(made.join, "127.0.0.1", 0)
    made.url = "nats://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    try:
        yield made
    finally:
        server.close()
        made.mend()
        await made.end()
