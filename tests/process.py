"""One ``headrace`` process of a test, whose log lines are events that tests wait for."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import termios
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from tests import gate
from tests.clock import Clock
from tests.forks import Fork
from tests.gate import Gate
from tests.held_loop import Held

PATIENCE = 120.0
Line = dict[str, Any]


class Process:
    """One ``headrace`` process; its log lines are events that tests wait for."""

    def __init__(
        self,
        name: str,
        inner: Fork | asyncio.subprocess.Process,
        clock: Clock | None = None,
        held: Held | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`clock`: what its wall clock is by. `held`: how long it holds its loop. `gate`: what its
        echo engines wait at."""
        self.name = name
        self.inner = inner
        self._clock = clock
        self.held = held
        self._gate = gate
        self.url = ""
        self.lines: list[Line] = []
        self.noise: list[str] = []
        self.readers: set[asyncio.Event] = set()
        """Set at each line, and at the end of all."""
        self._silent = False
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self.inner.pid

    async def _read(self) -> None:
        assert self.inner.stderr is not None
        while raw := await self.inner.stderr.readline():
            try:
                line = json.loads(raw)
            except ValueError:
                self.noise.append(raw.decode(errors="replace"))
                continue
            self.lines.append(line)
            self._wake()
        self._silent = True
        self._wake()

    def _wake(self) -> None:
        for reader in self.readers:
            reader.set()

    async def logged(self, event: str, *, skip: int = 0, **fields: Any) -> Line:
        """Wait for the line with this event and these fields (after `skip` such lines)."""

        def found() -> list[Line]:
            return [
                line
                for line in self.lines
                if line.get("event") == event and fields.items() <= line.items()
            ][skip:]

        await read_until(lambda: found() or self._silent, [self])
        assert found(), f"{self.name} ended without {event}: {self.noise[-5:]} {self.lines[-5:]}"
        return found()[0]

    def count(self, event: str, **fields: Any) -> int:
        return sum(
            line.get("event") == event and fields.items() <= line.items() for line in self.lines
        )

    def step_clock(self, seconds: float) -> None:
        """Have its wall clock be wrong by so much."""
        assert self._clock is not None
        self._clock.step(seconds)

    def open_gate(self, most: int = gate.ALL) -> None:
        """What its echo engines hold for ``gate.SHUT`` goes on, and what they will; only the first
        `most` of all, if that is said: tokens, and answers before their first one."""
        assert self._gate is not None
        self._gate.open(most)

    async def caught_up(self) -> None:
        """All that it has written until now is in `lines`: what a client has seen may be read
        before the line that was written earlier."""
        reader: Any = self.inner.stderr
        pipe = reader._transport.get_extra_info("pipe")
        while not self._silent and (reader._buffer or _unread(pipe)):
            await asyncio.sleep(0)

    def signal(self, number: int) -> None:
        self.inner.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.inner.wait()

    async def stop(self) -> int:
        """SIGTERM, and what the process ended with."""
        if self.inner.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """What the process ends with that was told to end: a second signal may come when nobody
        handles it any more."""
        async with asyncio.timeout(PATIENCE):
            return await self.inner.wait()

    async def reap(self) -> None:
        if self.inner.returncode is None:
            await self.kill()
        await self._reader


def _unread(pipe: Any) -> int:
    """Bytes."""
    found = array("i", [0])
    if not pipe.closed:
        fcntl.ioctl(pipe, termios.FIONREAD, found)
    return found[0]


async def first_to_log(processes: Sequence[Process], event: str, **fields: Any) -> int:
    """Which of the processes is the first to log this line."""
    waits = [asyncio.create_task(process.logged(event, **fields)) for process in processes]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return next(index for index, wait in enumerate(waits) if wait.done())
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


async def counts(processes: Sequence[Process], event: str, wanted: int, **fields: Any) -> list[int]:
    """Of each process, once there are `wanted` such lines in all: what a client has seen may be
    logged a moment later. The caller judges whether there are more."""

    def found() -> list[int]:
        return [process.count(event, **fields) for process in processes]

    await read_until(lambda: sum(found()) >= wanted, processes)
    return found()


async def read_until(enough: Callable[[], object], processes: Sequence[Process]) -> None:
    """Wait until `enough` is true of the lines that these processes log."""
    news = asyncio.Event()
    for process in processes:
        process.readers.add(news)
    try:
        async with asyncio.timeout(PATIENCE):
            while not enough():
                news.clear()
                await news.wait()
    finally:
        for process in processes:
            process.readers.discard(news)
