"""Answers as a client of HTTP/1.0 reads them (RFC 9112, 6.3): it knows no chunks, so that an answer
of unknown length ends with the connection."""

from __future__ import annotations

from typing import Any

from starlette.types import Message

_OURS = frozenset({b"connection", b"transfer-encoding"})
"""Headers that uvicorn writes itself: it says that the connection closes, once."""
_NO_BODY = (204, 304)


class OldClientAnswer:
    """In place of the `send` of one request's cycle in uvicorn, which writes chunks in any case
    but to HEAD: so it is told that this is one, and what it leaves out is written here."""

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._unbounded = False
        cycle.waiting_for_100_continue = False

    async def send(self, message: Message) -> None:
        cycle = self._cycle
        if message["type"] == "http.response.start":
            message = {**message, "headers": [each for each in message["headers"] if _kept(each)]}
            if cycle.scope["method"] != "HEAD" and _is_unbounded(message):
                self._unbounded = True
                cycle.scope = {**cycle.scope, "method": "HEAD"}
        elif self._unbounded and not cycle.disconnected:
            cycle.transport.write(message.get("body", b""))
        await self._send(message)


def _kept(header: tuple[bytes, bytes]) -> bool:
    return header[0].lower() not in _OURS


def _is_unbounded(start: Message) -> bool:
    told = any(name.lower() == b"content-length" for name, _ in start["headers"])
    return not told and start["status"] not in _NO_BODY
