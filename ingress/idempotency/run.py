"""Does what a request asks for, by itself: whoever asked may leave meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ingress.http import error_format
from ingress.http.held import HELD, held_of
from ingress.http.protocol import BEGUN, CLIENT_GONE
from schemas.api import sse

Serve = Callable[[Request], Awaitable[Response]]

# Headers of the body as it came: this one is unpacked, and whole.
_DROPPED = (b"content-encoding", b"content-length", b"transfer-encoding")


class Run:
    """`request`: the one that came first; `body`: all of it, unpacked. `serve`: the endpoint."""

    def __init__(self, request: Request, body: bytes, serve: Serve) -> None:
        self._api = error_format.of(request.url.path, request.headers)
        self._serve = serve
        self._body = body
        kept = [pair for pair in request.scope["headers"] if pair[0] not in _DROPPED]
        length = (b"content-length", str(len(body)).encode())
        self._scope = {**request.scope, "headers": [*kept, length]}
        self._id = request.state.id
        self._held = held_of(request)
        self._held.kept = True
        self.room = self._held.beside()
        """For the answer."""
        request.scope["state"].pop(HELD)  # it is this run's from now on, and lives as long
        self._state: dict[str, Any] = {}

    async def response(self, begun: bytes = b"") -> Response:
        """The response. `begun`: events from which it goes on. Raises HeadraceError, of which
        StreamInterrupted says that nobody can go on from them."""
        self._state = {"id": self._id, HELD: self._held, **({BEGUN: begun} if begun else {})}
        scope = {**self._scope, "state": self._state}
        return await self._serve(Request(scope, self._receiver()))

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        if (gone := self._state.get(CLIENT_GONE)) is not None:
            gone()

    def close(self) -> None:
        """The body is of no use any more."""
        self._body = b""
        self._held.let_go()

    def failed(self, parts: Sequence[bytes]) -> bool:
        """Whether the last event says that the answer broke off."""
        found = sse.object_of(parts[-1].removesuffix(sse.BREAK)) if parts else None
        return found is not None and self._api.failure(found) is not None

    def _receiver(self) -> Callable[[], Awaitable[dict[str, Any]]]:
        """Gives the body, once. Its client never leaves: `leave` says that."""
        bodies = iter([self._body])

        async def receive() -> dict[str, Any]:
            for body in bodies:
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError

        return receive
