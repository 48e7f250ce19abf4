"""A request's head and its body: read up to a limit, and refused if it cannot be JSON."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from ingress.http.coding import too_large, unpacked
from ingress.http.held import OWNER, held_of
from schemas.api import piecewise_write
from schemas.errors import ClientGone, InvalidRequest

_BOM = b"\xef\xbb\xbf"  # orjson refuses it
_FORM = "multipart/"
CYCLE = "headrace.cycle"
"""A request's state has uvicorn's cycle under this name where nothing is between the two: the body
may be taken from it without a wait, if it is there, and the answer written at once (`whole.py`)."""
FIRST = "headrace.headers"
"""A request's state has its headers by name under this one, the first of each, where they were put
into a dict already."""
ID = b"x-request-id"


class Asked(Request):
    """A request whose headers are looked for among all of them once, and not for each name."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._headers = Head(scope)


class Head(Headers):
    """Starlette's headers, by a dict. Of several with one name it has the first, as those do."""

    def __init__(self, scope: Scope) -> None:
        self._list = scope["headers"]
        known: dict[bytes, bytes] | None = scope.get("state", {}).get(FIRST)
        self.first = dict(reversed(self._list)) if known is None else known

    def get(self, key: str, default: Any = None) -> Any:
        found = self.first.get(key.lower().encode())
        return default if found is None else found.decode("latin-1")

    def __getitem__(self, key: str) -> str:
        return self.first[key.lower().encode("latin-1")].decode("latin-1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower().encode("latin-1") in self.first


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id, or a new one."""
    for name, value in headers:
        if name == ID and 0 < len(value) <= 128 and value.isascii():
            text = value.decode("ascii")
            if text.isprintable():
                return text
    return new_id()


def new_id() -> str:
    return f"req-{os.urandom(12).hex()}"


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, unpacked. Raises BodyTooLarge as soon as that is known, without reading on;
    OutOfRoom before more is read than the request may hold; UnsupportedCoding."""
    owner = request.scope.get("state", {}).get(OWNER)
    # What is read before its key is known counts for nobody.
    small = limit if owner is None else min(limit, owner[0].small)
    if (whole := _there(request)) is not None:
        if (size := len(whole)) > small:
            await _hold(request, size, limit)
        return whole.removeprefix(_BOM)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (size := int(announced)) > small:
        await _hold(request, size, limit)
    coming: AsyncIterator[bytes] = request.stream()
    pieces, size = list[bytes](), 0
    try:
        if coding := request.headers.get("content-encoding"):
            coming = unpacked(coming, coding, limit)
        async for piece in coming:
            size += len(piece)
            if size > small:
                await _hold(request, size, limit)
            pieces.append(piece)
    except ClientDisconnect:
        raise ClientGone("the client left while it sent its request") from None
    if size <= piecewise_write.IN_THREAD:
        return b"".join(pieces).removeprefix(_BOM)
    return await _joined(pieces)


async def _joined(pieces: list[bytes]) -> bytes:
    """A large body, without its mark, which is taken off before there is one large text to copy."""
    while len(pieces) > 1 and len(pieces[0]) < len(_BOM):
        pieces[:2] = [pieces[0] + pieces[1]]
    pieces[:1] = [piece.removeprefix(_BOM) for piece in pieces[:1]]
    return pieces[0] if len(pieces) == 1 else await piecewise_write.joined(pieces)


async def _hold(request: Request, size: int, limit: int) -> None:
    """Have room for `size` bytes in all, which is not small. Raises BodyTooLarge, OutOfRoom."""
    if size > limit:
        raise too_large(limit)
    if not (held := held_of(request)).covers(size):
        await held.cover(size)


def _there(request: Request) -> bytes | None:
    """The body, if all of it has come, as that of nearly all requests has, and is not packed."""
    cycle = request.scope.get("state", {}).get(CYCLE)
    if cycle is None or cycle.more_body or cycle.disconnected:
        return None
    if "content-encoding" in request.headers:
        return None
    found, cycle.body = bytes(cycle.body), bytearray()
    return found


def need_json(request: Request) -> None:
    """Raises InvalidRequest if by its head the body cannot be JSON. Other content types than
    multipart pass: ``curl -d`` calls JSON ``application/x-www-form-urlencoded``."""
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith(_FORM):
        raise InvalidRequest(
            f"The content type is {content_type!r}; send 'application/json'.", param=None
        )


def is_json(request: Request) -> bool:
    """Whether by its head the body is JSON, where it may also be a form."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "application/json"
