"""One answer as it comes, for all who asked for it. Pure but for the waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import NamedTuple

from starlette.responses import Response, StreamingResponse

from ingress.http.held import Held
from ingress.http.streamed import EventStream
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
    """`digest`: of the request. `room`: for `parts`, of what its key may have in memory. `parts`:
    events without comments, or pieces of a document. `error`: what came instead of an answer.
    `whole`: the answer is complete. `over`: nothing more comes. `begun_anew`: how often all parts
    were dropped, since nobody could go on from them. `made_here`: this ingress does what was asked,
    or the rest of it."""

    def __init__(self, digest: bytes, room: Held) -> None:
        self.digest = digest
        self._room = room
        self._closed = False
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
            self._drop()
        self.head = head
        self.tell()

    async def add(self, piece: bytes) -> None:
        """Whole events, or bytes of a document. Comments are for one reader at one time. Raises
        OutOfRoom."""
        assert self.head is not None
        await self._room.add(len(piece))
        if self.head.is_stream:
            events = sse.split(sse.without_comments(piece))
            self.parts += (event + sse.BREAK for event in events)
        else:
            self.parts.append(piece)
        self.tell()

    async def fill(self, response: Response) -> None:
        """Add all that a response has. Raises OutOfRoom."""
        if not isinstance(response, StreamingResponse | EventStream):
            await self.add(bytes(response.body))
            return
        pieces = response.body_iterator
        try:
            async for piece in pieces:
                await self.add(piece if isinstance(piece, bytes) else str(piece).encode())
        finally:  # there may be no room for more
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    def end(self, *, whole: bool, error: HeadraceError | None = None) -> None:
        if not self.over:
            self.whole, self.over, self.error = whole, True, error
            self.unheard = _nothing  # it leads back here, and to the request's body
            self.tell()

    def join(self) -> None:
        self.joined += 1
        self.followers += 1

    def leave(self) -> None:
        self.followers -= 1
        if not self.followers and not self.over:
            self.unheard()
        self._drop_if_of_no_use()

    def close(self) -> None:
        """It is over, and stored; only those may read it who follow it already."""
        self._closed = True
        self._drop_if_of_no_use()

    def _drop_if_of_no_use(self) -> None:
        if self._closed and not self.followers:
            self._drop()

    def _drop(self) -> None:
        self.parts.clear()
        self._room.let_go()


def head_of(response: Response, goes_on: bool = False) -> Head:
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Head(response.status_code, headers, goes_on)


def _nothing() -> None:
    """The `unheard` of a recording before it is played, and after."""
