"""Answers requests with an `Idempotency-Key`: the same key and body get the same answer, also while
the first is being answered, and from every ingress. The meaning is Stripe's, but errors are not
kept, so that a request that failed may be tried again.

Each event of a stream has an id, its number. Who asks again with `Last-Event-ID` gets what comes
behind that event.
"""

from __future__ import annotations

import hashlib
from asyncio import to_thread
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from ingress.endpoints.inference import recognize
from ingress.http.body import read_body
from ingress.http.held import held_of
from ingress.idempotency.follower import Follower
from ingress.idempotency.run import Run, Serve
from schemas import multipart
from schemas.errors import InvalidRequest
from schemas.multipart import FormError

KEY = "idempotency-key"
_PLACE = "last-event-id"
_LONGEST = 255
_AT_ONCE = 2**20
"""Bytes that are hashed without a thread (measured: 1 ms)."""


async def serve(request: Request, call: Serve) -> Response:
    """The answer to a request with a key, made by `call` if nobody made it before. Raises
    HeadraceError."""
    caller = recognize(request)
    key, after = _key(request), _last_event(request)
    body = await read_body(request, caller.here.config.ingress.max_body)
    # A key is printable, so no other account and key make the same text.
    name = hashlib.sha256(f"{caller.who.account}\0{key}".encode()).hexdigest()[:32]
    await held_of(request).cover(len(body))  # the run may have it longer than the connection lives
    run = Run(request, body, call)
    large = len(body) > _AT_ONCE
    digest = _digest(request, body) if not large else await to_thread(_digest, request, body)
    recording = caller.here.recordings.join(name, digest, run)
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
    found, mark = hashlib.sha256(request.url.path.encode() + b"\0"), b""
    with suppress(FormError):  # no form: then the body is as its client wrote it
        mark = multipart.boundary(request.headers.get("content-type", ""))
    whole, at = memoryview(body), 0
    while mark and (end := body.find(mark, at)) >= 0:
        found.update(whole[at:end])
        at = end + len(mark)
    found.update(whole[at:])
    return found.digest()
