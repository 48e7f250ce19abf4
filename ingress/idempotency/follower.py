"""One client of a recording: what it gets, and when it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer.headers import warn
from ingress.answer.respond import KEEP_ALIVE
from ingress.http import error_format
from ingress.http.protocol import CLIENT_GONE
from ingress.http.streamed import EventStream
from ingress.idempotency.recording import Recording
from ingress.limits.headers import PREFIXES
from schemas.errors import ClientGone, HeadraceError, StreamInterrupted

REPLAYED = "idempotent-replayed"
"""Tells a client that another request made its answer first; Stripe's name."""


class Follower:
    """One client of a recording. `after`: the events that it has."""

    def __init__(self, request: Request, recording: Recording, after: int) -> None:
        self._recording = recording
        self._after = after
        self._replayed = recording.joined > 0
        self._id: str = request.state.id
        self._api = error_format.of(request.url.path, request.headers)
        self._gone = False
        self._begun_anew = recording.begun_anew
        self._state = request.scope["state"]

    async def response(self, keepalive: float) -> Response:
        """Raises the HeadraceError with which the request failed."""
        recording = self._recording
        recording.join()
        self._state[CLIENT_GONE] = self._leave
        with ExitStack() as stack:
            stack.callback(self._done)
            while recording.head is None and not recording.over:
                await self._news()
            if recording.head is not None and recording.head.is_stream:
                stack.pop_all()  # the stream itself says when it is done
                return EventStream(self._events(keepalive), headers=self._headers())
            while not recording.over:
                await self._news()
            return self._document()

    def _document(self) -> Response:
        recording = self._recording
        if recording.error is not None or recording.head is None:
            raise self._fault()
        response = Response(b"".join(recording.parts), recording.head.status, self._headers())
        if self._after:
            warn(response, "Last-Event-ID is ignored: this answer has no events")
        return response

    async def _events(self, keepalive: float) -> AsyncIterator[bytes]:
        recording, at, begun_anew = self._recording, self._after, self._begun_anew
        try:
            while True:
                if at and recording.begun_anew != begun_anew:
                    why = "the answer was begun anew; send the request without Last-Event-ID"
                    yield self._error(StreamInterrupted(why))
                    return
                begun_anew = recording.begun_anew
                if at < len(recording.parts):
                    fresh = recording.parts[at:]
                    yield self._written(at, fresh)
                    at += len(fresh)
                elif recording.over:
                    if recording.error is not None:
                        yield self._error(recording.error)
                    return
                elif not await self._news_within(keepalive):
                    yield KEEP_ALIVE
        except ClientGone:
            return
        finally:
            self._done()

    def _fault(self) -> HeadraceError:
        """What there is in place of an answer."""
        return self._recording.error or StreamInterrupted("the answer broke off; send it again")

    def _written(self, at: int, events: Sequence[bytes]) -> bytes:
        """Events, of which the client has `at` before, each with its id."""
        return b"".join(b"id: %d\n%b" % (at + n, event) for n, event in enumerate(events, 1))

    def _error(self, error: HeadraceError) -> bytes:
        return self._api.error_event(error.fields(), error.status, self._id)

    async def _news_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news()
                return True
        return False

    async def _news(self) -> None:
        """Wait until something changes. Raises ClientGone."""
        if not self._gone:
            await self._recording.news()
        if self._gone:
            raise ClientGone("the client left")

    def _leave(self) -> None:
        self._gone = True
        self._recording.tell()

    def _done(self) -> None:
        self._state.pop(CLIENT_GONE, None)
        self._recording.leave()

    def _headers(self) -> dict[str, str]:
        head = self._recording.head
        assert head is not None
        replayed = self._replayed or not self._recording.made_here
        own = dict.fromkeys(self._api.id_headers, self._id)
        if not replayed:
            return {**head.headers, **own}
        # What was left of limits then says nothing now, and a replay uses none of them.
        kept = {name: v for name, v in head.headers.items() if not name.startswith(PREFIXES)}
        return {**kept, **own, REPLAYED: "true"}
