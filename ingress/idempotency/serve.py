"""Answers requests with an `Idempotency-Key`: the same key and body get the same answer, also while
the first is being answered, and from every ingress. The meaning is Stripe's, but errors are not
kept, so that a request that failed may be tried again.

Each event of a stream has an id, its number. Who asks again with `Last-Event-ID` gets what comes
behind that event.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer.respond import KEEP_ALIVE, EventStream
from ingress.endpoints.inference import admit, warn
from ingress.http import error_format
from ingress.http.body import read_body
from ingress.http.protocol import CLIENT_GONE
from ingress.idempotency.recording import Recording
from ingress.idempotency.run import Run, Serve
from schemas import multipart
from schemas.errors import ClientGone, HeadraceError, InvalidRequest, StreamInterrupted
from schemas.multipart import FormError

KEY = "idempotency-key"
REPLAYED = "idempotent-replayed"
"""Tells a client that another request made its answer first; Stripe's name."""
_PLACE = "last-event-id"
_LONGEST = 255


async def serve(request: Request, call: Serve) -> Response:
    """The answer to a request with a key, made by `call` if nobody made it before. Raises
    HeadraceError."""
    caller = admit(request)
    key, after = _key(request), _last_event(request)
    body = await read_body(request, caller.here.config.ingress.max_body)
    # A key is printable, so no other account and key make the same text.
    name = hashlib.sha256(f"{caller.who.account}\0{key}".encode()).hexdigest()[:32]
    run = Run(request, body, call)
    recording = caller.here.recordings.join(name, _digest(request, body), run)
    keepalive = caller.here.config.ingress.keepalive
    return await Follower(request, recording, after).response(keepalive)


def _key(request: Request) -> str:
    key: str = request.headers[KEY].strip()
    if not key or len(key) > _LONGEST or not key.isprintable():
        why = f"An Idempotency-Key has 1 to {_LONGEST} printable characters."
        raise InvalidRequest(why, param="Idempotency-Key")
    return key


def _last_event(request: Request) -> int:
    """The number of the last event that the client has, 0 if it has none."""
    text = request.headers.get(_PLACE, "").strip() or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        why = f"Last-Event-ID is {text[:64]!r}; send the id of an event of this answer, a number."
        raise InvalidRequest(why, param="Last-Event-ID")
    return int(text)


def _digest(request: Request, body: bytes) -> bytes:
    """What tells two requests apart. Clients draw the boundary of a form anew for each try."""
    with suppress(FormError):  # no form: then the body is as its client wrote it
        body = body.replace(multipart.boundary(request.headers.get("content-type", "")), b"")
    return hashlib.sha256(request.url.path.encode() + b"\0" + body).digest()


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
            raise recording.error or StreamInterrupted("the answer broke off; send it again")
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
                    yield b"".join(b"id: %d\n%b" % (at + n, e) for n, e in enumerate(fresh, 1))
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
        own = {REPLAYED: "true"} if replayed else {}
        return {**head.headers, "x-request-id": self._id, **own}
