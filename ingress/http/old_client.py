"""Answers for clients of HTTP/1.0, which know no chunks (RFC 9112, 6.3): an answer of unknown
length ends with the connection."""

from __future__ import annotations

from typing import Any

from starlette.types import Message

_OURS = frozenset({b"connection", b"transfer-encoding"})
"""Headers that uvicorn writes itself; otherwise "connection: close" would be there twice."""
_NO_BODY = (204, 304)  # their answers end with the head


class OldClientAnswer:
    """Replaces the `send` of one request's cycle in uvicorn, which writes chunks except for HEAD.
    So uvicorn is told that the request is a HEAD, and the body that it leaves out is written here.
    """

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._unbounded = False
        cycle.waiting_for_100_continue = False  # no 100 for HTTP/1.0 (RFC 9110, 10.1.1)

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
