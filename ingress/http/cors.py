"""Which web pages may use this ingress (Fetch standard, "CORS protocol").

A browser sends no key on its own, as there are no cookies here. So a page can do no more than
anybody who knows a key. Pages see the API alone, never what is open without a key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.types import Message, Scope, Send

from schemas.settings.sections import LOCALHOST

ANY = "*"
_LOCAL = re.compile(rb"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
METHODS = b"GET, POST"
MAX_AGE = b"600"
"""Seconds that a browser may remember what it was allowed."""

Headers = list[tuple[bytes, bytes]]


class Pages:
    """`origins`: as browsers name them ("https://ui.example.com"), or `LOCALHOST`, or "*".
    `closed`: beginnings of paths that no page may see."""

    def __init__(self, origins: Sequence[str], closed: tuple[str, ...]) -> None:
        self._any = ANY in origins
        self._local = LOCALHOST in origins
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)
        self._closed = closed

    def origin(self, scope: Scope) -> bytes:
        """The origin that the answer names, if the page may see this path; otherwise b""."""
        origin = _header(scope, b"origin")
        if not origin or scope["path"].startswith(self._closed):
            return b""
        if self._any:
            return ANY.encode()
        local = self._local and _LOCAL.fullmatch(origin)
        return origin if local or origin in self._origins else b""


def asks(scope: Scope) -> bool:
    """Whether this is a browser's question what a page may do (a preflight request)."""
    return scope["method"] == "OPTIONS" and bool(_header(scope, b"access-control-request-method"))


async def answer(scope: Scope, send: Send, *, allowed: bool) -> None:
    """Answer such a question: a page that is not allowed hears nothing of what it might do. "*"
    would not cover the header of the key, so the allowed headers are those that the browser asks
    for."""
    headers: Headers = [(b"x-request-id", scope["state"]["id"].encode()), (b"content-length", b"0")]
    if allowed:
        headers += [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", _header(scope, b"access-control-request-headers")),
            (b"access-control-max-age", MAX_AGE),
        ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def telling(send: Send, origin: bytes) -> Send:
    """A `send` that adds the headers by which a page of `origin` may see the answer."""
    allowed = [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", ANY.encode()),
        (b"vary", b"Origin"),  # a cache must not give it to another page
    ]

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *allowed]}
        await send(message)

    return told


def _header(scope: Scope, name: bytes) -> bytes:
    found: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return found
