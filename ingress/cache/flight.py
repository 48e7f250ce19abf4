"""One run of a request for all who ask the same while it runs.

It is nobody's own: the first client may leave, and the others get the whole answer. When the last
one leaves, it ends. If it fails, all are told of that, and nobody tries again by himself: else as
many would as were waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy

from starlette.requests import Request

from ingress.idempotency.follower import Follower
from ingress.idempotency.player import told
from ingress.idempotency.recording import Head, Recording, head_of
from ingress.idempotency.run import Run
from schemas.api import sse
from schemas.api.base import Api
from schemas.errors import HeadraceError
from schemas.frames import COST

Keep = Callable[[Recording], Awaitable[None]]
"""Keeps what a whole recording has."""
_LAST = 3
"""Events at the end of a stream, one of which says that it is whole."""


class Flight:
    """`run`: does what was asked; `keep`: what is done with its whole answer; `over`: called as
    soon as nobody may join any more."""

    def __init__(self, run: Run, api: Api, keep: Keep, over: Callable[[], None]) -> None:
        self.recording = Recording(b"", run.room)
        self.recording.unheard = self._leave
        self._run = run
        self._api = api
        self._keep = keep
        self._over = over
        self.task = asyncio.get_running_loop().create_task(self._fly())

    def _leave(self) -> None:
        """Nobody listens any more."""
        self._over()
        self.task.cancel()

    async def _fly(self) -> None:
        recording = self.recording
        try:
            response = await self._run.response()
            recording.begin(head_of(response))
            await recording.fill(response)
            recording.end(whole=response.status_code == 200 and self._is_whole())
            if recording.whole:
                await self._keep(recording)
        except Exception as fault:  # noqa: BLE001 - those who wait must hear of it
            recording.end(whole=False, error=told(fault))
        finally:
            self._over()
            self._run.close()
            recording.close()

    def _is_whole(self) -> bool:
        """Whether a document has come, or a stream to its end."""
        recording = self.recording
        if recording.head is None or not recording.head.is_stream:
            return True
        last = b"".join(recording.parts[-_LAST:])
        found = list(sse.objects(last))
        if any(self._api.failure(event) is not None for event in found):
            return False
        return sse.end_of(last) >= 0 or any(map(self._api.is_last, found))


class Shared(Follower):
    """One client of a flight. `shared`: called once it has the whole answer, unless it was the
    first. `left`: called once it has what it gets."""

    def __init__(
        self,
        request: Request,
        flight: Flight,
        api: Api,
        shared: Callable[[], None],
        left: Callable[[], None],
    ) -> None:
        super().__init__(request, flight.recording, 0)
        self._api = api  # of the endpoint, whatever dialect its path is of
        self._shared = shared
        self._left = left

    def _written(self, at: int, events: Sequence[bytes]) -> bytes:
        return b"".join(events)

    def _fault(self) -> HeadraceError:
        """Each has an error of his own, to which is added what he is told of his limits."""
        error = copy(super()._fault())
        error.told = dict(error.told)
        return error

    def _done(self) -> None:
        super()._done()
        self._left()
        if self._replayed and self._recording.whole and not self._gone:
            self._shared()

    def _headers(self) -> dict[str, str]:
        head: Head | None = self._recording.head
        assert head is not None
        found = {**head.headers, **dict.fromkeys(self._api.id_headers, self._id)}
        if self._replayed and COST in found:
            found[COST] = "0"
        return found
