"""What the bodies of requests may take: so much memory and so many bytes of files, in all and for
one key. A body is in memory while it is read and checked. One that waits for its answer and is too
large to travel in its job waits in a file.

Most bodies are small. Each connection has room for one such of its own, which is taken from the
memory beforehand: so no request asks for it, and all together never have more than is set.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import structlog
from starlette.requests import Request

from ingress.http import descriptors
from ingress.http.heap import Heap
from ingress.jobs.spilled import Body, Spilled
from schemas import metrics, settings
from schemas.errors import OutOfRoom

log = structlog.get_logger("held")

HELD = "headrace.held"
"""A request's state has what it holds under this name, if it holds anything."""
OWNER = "headrace.owner"
"""And under this one, where it would hold it, and the key that it counts for."""
SMALL = 8 * 1024
"""Bytes that each connection has for a body of its own, if all of them have at most `_OWN`."""
_OWN = 8
"""The part of the memory that connections have for themselves: an eighth."""
PATIENCE = 10.0
"""Seconds that a body waits for room before its request is refused."""
SMALLEST = 64 * 1024
"""Bytes up to which a body stays in memory, whatever the settings say: a file would cost more."""
_AT_ONCE = 2**20
"""Bytes that are written without a thread (measured: 0.3 ms)."""
_USUAL = Path("/var/tmp")  # noqa: S108 - files without names; /tmp is often memory


class Budget:
    """So many bytes in all, and of one key."""

    def __init__(self, room: int, share: int) -> None:
        self._left = room
        self._share = share
        self._taken: dict[str, int] = {}

    def take(self, key: str, size: int) -> bool:
        taken = self._taken.get(key, 0) + size
        if size > self._left or taken > self._share:
            return False
        self._left -= size
        self._taken[key] = taken
        return True

    def give_back(self, key: str, size: int) -> None:
        self._left += size
        if left := self._taken[key] - size:
            self._taken[key] = left
        else:
            del self._taken[key]


class Bodies:
    """All bodies that one ingress holds."""

    def __init__(self, config: settings.Ingress) -> None:
        share, connections = config.body_share, config.max_connections
        self.small = min(SMALL, config.body_memory // _OWN // connections)
        """Bytes up to which a body is its connection's own, which serves one request at a time."""
        room = config.body_memory - self.small * connections
        # One request, at least, is taken whole.
        self.memory = Budget(max(room, config.max_body), max(round(room * share), config.max_body))
        self.files = Budget(config.body_files, round(config.body_files * share))
        self.folder = config.body_folder or _folder()
        self.inline = max(config.inline_body, SMALLEST)
        self.heap = Heap()
        self.spilled, self.most_spilled = 0, descriptors.limit() // 8
        self.waiting: set[asyncio.Future[None]] = set()

    def hold(self, request: Request, key: str) -> Held:
        """What a request of `key` holds, until `let_go`."""
        request.scope["state"][OWNER] = self, key
        return held_of(request)

    async def freed(self) -> None:
        """Wait until somebody gives something back."""
        news = asyncio.get_running_loop().create_future()
        self.waiting.add(news)
        try:
            await news
        finally:
            self.waiting.discard(news)

    def tell(self) -> None:
        for news in self.waiting:
            if not news.done():
                news.set_result(None)


class Held:
    """What one request holds. `key`: whose it is. `kept`: whoever asked keeps the request in memory
    until it is answered, so that it need not be in a file as well."""

    __slots__ = ("_bodies", "_files", "_memory", "_spills", "kept", "key")

    def __init__(self, bodies: Bodies, key: str) -> None:
        self.key = key
        self.kept = False
        self._bodies = bodies
        self._memory = self._files = self._spills = 0

    def covers(self, size: int) -> bool:
        """Whether there is room for `size` bytes in all without a wait."""
        more = size - self._memory
        if more > 0:
            if not self._bodies.memory.take(self.key, more):
                return False
            self._memory = size
        return True

    async def cover(self, size: int) -> None:
        """Have room for `size` bytes in all, and wait for it if need be. Raises OutOfRoom."""
        if not self.covers(size):
            more = size - self._memory
            await self._wait(more)
            self._memory += more

    async def _wait(self, size: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self._bodies.memory.take(self.key, size):
                    await self._bodies.freed()
                return
        metrics.BODIES_REFUSED.inc()
        why = "Too many large requests are on their way. Try again later, or send fewer at once."
        raise OutOfRoom(why, retry_after=PATIENCE)

    async def add(self, size: int) -> None:
        """Have room for `size` more bytes. Raises OutOfRoom."""
        await self.cover(self._memory + size)

    async def spill(self, body: bytes) -> Body:
        """The body in a file, if it is large, and there is room for the file; what the request held
        in memory is given back then."""
        size = len(body)
        bodies = self._bodies
        if self.kept or size <= bodies.inline or bodies.spilled >= bodies.most_spilled:
            return body
        if not bodies.files.take(self.key, size):
            return body
        try:
            spilled = Spilled(size, self._bodies.folder)
            if size > _AT_ONCE:
                await asyncio.to_thread(spilled.write, body)
            else:
                spilled.write(body)
        except BaseException as fault:
            self._bodies.files.give_back(self.key, size)
            if not isinstance(fault, OSError):
                raise
            log.warning("held.not_spilled", error=str(fault), folder=self._bodies.folder)
            return body
        self._files += size
        self._spills += 1
        bodies.spilled += 1
        self._give_back_memory()
        return spilled

    def beside(self) -> Held:
        """What the same key holds by itself: an answer that is kept longer than its request."""
        return Held(self._bodies, self.key)

    def let_go(self) -> None:
        """The request is answered."""
        files, self._files = self._files, 0
        if files:
            self._bodies.files.give_back(self.key, files)
            self._bodies.spilled -= self._spills
            self._spills = 0
        self._give_back_memory()

    def _give_back_memory(self) -> None:
        memory, self._memory = self._memory, 0
        if memory:
            self._bodies.memory.give_back(self.key, memory)
            if memory > SMALLEST:  # what is less leaves no holes
                self._bodies.heap.freed(memory)
            if self._bodies.waiting:
                self._bodies.tell()


def held_of(request: Request) -> Held:
    """What a request holds whose key is known."""
    state = request.scope["state"]
    held: Held | None = state.get(HELD)
    if held is None:
        bodies, key = state[OWNER]
        held = state[HELD] = Held(bodies, key)
    return held


def let_go(request: Request) -> None:
    """Give back what a request held, if it held anything."""
    held: Held | None = request.scope["state"].pop(HELD, None)
    if held is not None:
        held.let_go()


def _folder() -> str:
    usable = _USUAL.is_dir() and os.access(_USUAL, os.W_OK)
    return str(_USUAL) if usable else tempfile.gettempdir()
