"""A request's id, and its body: read up to a limit, and refused if it cannot be JSON."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable

from starlette.requests import ClientDisconnect, Request

from ingress.http.coding import too_large, unpacked
from schemas.errors import ClientGone, InvalidRequest

_BOM = b"\xef\xbb\xbf"  # orjson refuses it
_FORM = "multipart/"


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id, or a new one."""
    for name, value in headers:
        if name == b"x-request-id" and 0 < len(value) <= 128 and value.isascii():
            text = value.decode("ascii")
            if text.isprintable():
                return text
    return f"req-{os.urandom(12).hex()}"


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, unpacked. Raises BodyTooLarge as soon as that is known, without reading on;
    UnsupportedCoding."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    coming: AsyncIterator[bytes] = request.stream()
    pieces, size = list[bytes](), 0
    try:
        if coding := request.headers.get("content-encoding"):
            coming = unpacked(coming, coding, limit)
        async for piece in coming:
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            pieces.append(piece)
    except ClientDisconnect:
        raise ClientGone("the client left while it sent its request") from None
    return (pieces[0] if len(pieces) == 1 else b"".join(pieces)).removeprefix(_BOM)


def need_json(request: Request) -> None:
    """Raises InvalidRequest if by its head the body cannot be JSON. Other content types than
    multipart pass: ``curl -d`` calls JSON ``application/x-www-form-urlencoded``."""
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith(_FORM):
        raise InvalidRequest(
            f"The content type is {content_type!r}; send 'application/json'.", param=None
        )
