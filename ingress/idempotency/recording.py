"""One answer as it comes, for all who asked for it. Pure but for the waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas.api import sse
from schemas.errors import HeadraceError


class Head(NamedTuple):
    """`goes_on`: the parts continue those of an ingress that was lost."""

    status: int
    headers: Mapping[str, str]
    goes_on: bool = False

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith(sse.CONTENT_TYPE)


class Recording:
    """`digest`: of the request. `parts`: events without comments, or pieces of a document. `error`:
    what came instead of an answer. `whole`: the answer is complete. `over`: nothing more comes.
    `begun_anew`: how often all parts were dropped, since nobody could go on from them. `made_here`:
    this ingress does what was asked, or the rest of it."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.head: Head | None = None
        self.parts: list[bytes] = []
        self.error: HeadraceError | None = None
        self.whole = self.over = self.made_here = False
        self.begun_anew = 0
        self.joined = self.followers = 0
        """Clients that came, and those of them that have not left."""
        self.unheard: Callable[[], object] = _nothing
        """Called when the last follower leaves."""
        self._news = asyncio.get_running_loop().create_future()

    async def news(self) -> None:
        """Wait until something changes."""
        await asyncio.shield(self._news)  # others wait for it, too: leaving must not cancel it

    def tell(self) -> None:
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)

    def begin(self, head: Head) -> None:
        if not head.goes_on:
            self.begun_anew += bool(self.parts)
            self.parts.clear()
        self.head = head
        self.tell()

    def add(self, piece: bytes) -> None:
        """Whole events, or bytes of a document. Comments are for one reader at one time."""
        assert self.head is not None
        if self.head.is_stream:
            events = sse.split(sse.without_comments(piece))
            self.parts += (event + sse.BREAK for event in events)
        else:
            self.parts.append(piece)
        self.tell()

    def end(self, *, whole: bool, error: HeadraceError | None = None) -> None:
        if not self.over:
            self.whole, self.over, self.error = whole, True, error
            self.tell()

    def join(self) -> None:
        self.joined += 1
        self.followers += 1

    def leave(self) -> None:
        self.followers -= 1
        if not self.followers and not self.over:
            self.unheard()


def _nothing() -> None:
    """The `unheard` of a recording before it is played."""
