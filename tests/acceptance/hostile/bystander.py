"""Who is asked for an answer after each hostile act: a model of another worker, by another key."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.fabric import PATIENCE, Fabric, ask

OTHER = "sk-other-0123456789abcdef"
"""The key of the bystander."""
BOOKS = "sk-books-0123456789abcdef"
"""One that may read what is used of the account of the tests."""
KEYS = f"""
[[keys]]
name = "other"
account = "others"
secret = "{OTHER}"
[[keys]]
name = "books"
account = "tests"
secret = "{BOOKS}"
scopes = ["usage:read"]
"""
SOON = 1.0
"""Seconds in which it is answered by a machine that does nothing else."""
AWAY, TRIES = 503, 3
"""The status if the broker is away, and how often it is asked then, as clients do."""
GROWN = 64 * 2**20
"""Bytes by which a process may have grown after an act: what an allocator keeps for the next."""


def memory(pid: int) -> int:
    """Bytes of a process that are in memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Bystander:
    """Sees to it that a fabric is as it was."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self._before: dict[str, int] = {}

    def measure(self) -> None:
        self._before = {each.name: memory(each.pid) for each in self.fabric.processes}
        for each in self.fabric.processes:
            assert each.held is not None
            each.held.forget()

    async def answered(self) -> None:
        """Its request is answered, and nobody has held an event loop for long meanwhile, in CPU
        time: how busy the machine is does not count. The broker drops who stands still for some
        seconds, whoever made it, so a request may come when its ingress is just away from it."""
        status = AWAY
        for _ in range(TRIES):
            if status == AWAY:
                status, found, _ = await self.fabric.post(
                    ask("still here"), Authorization=f"Bearer {OTHER}"
                )
        assert status == 200, found
        assert found["choices"][0]["message"]["content"] == "still here"
        for each in self.fabric.processes:
            assert each.held is not None
            assert each.held.longest < SOON, f"{each.name} held its loop"

    async def unharmed(self) -> None:
        await self.answered()
        ended = [each.name for each in self.fabric.processes if each.inner.returncode is not None]
        assert not ended, f"ended: {ended} {[e.lines[-3:] for e in self.fabric.processes]}"
        await self._shrunk()
        assert not self.fabric.tracebacks()

    async def _shrunk(self) -> None:
        """Wait until no process has more memory than it may keep."""
        by = time.monotonic() + PATIENCE
        while grown := self._grown():
            assert time.monotonic() < by, f"grown: {grown}"
            await asyncio.sleep(0.1)

    def _grown(self) -> list[str]:
        found = []
        for process in self.fabric.processes:
            grown = memory(process.pid) - self._before.get(process.name, 2**63)
            if grown >= GROWN:
                found.append(f"{process.name} by {grown >> 20} MiB")
        return found


@asynccontextmanager
async def unharmed(fabric: Fabric) -> AsyncIterator[Bystander]:
    """After the block, the bystander is answered, and no process has ended or grown."""
    assert fabric.watched, "before its processes start"
    bystander = Bystander(fabric)
    await bystander.answered()
    bystander.measure()
    yield bystander
    await bystander.unharmed()
