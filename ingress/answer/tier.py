"""The service tier "flex", OpenAI's name for the batch lane: who asked for it, and how its answers
say so.

A request with ``"service_tier": "flex"`` is served when no other waits. Chats and responses tell in
the field of the same name which tier served them; of a message, its usage does, and the tier is
called "batch" there. What an engine or a provider says of the tier itself is left as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from ingress.answer.reread import reread
from ingress.http.streamed import EventStream
from schemas.api import sse
from schemas.api.base import Document
from schemas.api.endpoints import Endpoint

FIELD = "service_tier"
FLEX = "flex"
_BATCH = "batch"
SUCCESS = 200
_TIERED = frozenset({"chat", "responses", "messages"})
"""Words on cards of the endpoints that have tiers."""


def is_known(endpoint: Endpoint) -> bool:
    """Whether the field means something at an endpoint."""
    return endpoint.word in _TIERED


async def tell(response: Response, endpoint: Endpoint) -> None:
    """Have the answer to a request for the batch lane say so."""
    if isinstance(response, EventStream):
        response.body_iterator = _told(response.body_iterator)
    elif response.status_code == SUCCESS:
        of_message = endpoint.word == "messages"
        await reread(response, lambda found: found if _mark(found, of_message) else None)


async def _told(stream: Any) -> AsyncIterator[bytes]:
    joiner = sse.Joiner()
    async with aclosing(stream) as pieces:
        async for piece in pieces:
            yield b"".join(map(_event, sse.split(joiner.feed(piece))))


def _event(raw: bytes) -> bytes:
    found = sse.object_of(raw)
    if found is None:
        return raw + sse.BREAK
    if isinstance(whole := found.get("response", found.get("message")), dict):
        marked = _mark(whole, "message" in found)
    else:
        marked = "choices" in found and _mark(found, of_message=False)
    return sse.dump(found, named="type" in found) if marked else raw + sse.BREAK


def _mark(answer: Document, of_message: bool) -> bool:
    """Set the tier in an answer, or in its usage, unless it is set. Returns whether it was."""
    place = answer.get("usage") if of_message else answer
    if not isinstance(place, dict) or place.get(FIELD) is not None:
        return False
    place[FIELD] = _BATCH if of_message else FLEX
    return True
