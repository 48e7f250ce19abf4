"""Writes an answer in pieces, as they come (`whole.py` writes one that is whole)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

Opened = Callable[["Straight | None"], None]


class EventStream(EventSourceResponse):
    """sse-starlette's response, sent by the request's own task.

    The original runs four tasks for each stream (sender, pinger, two listeners), 0.4 ms of CPU
    measured, and ends streams at once when the server is told to stop. Here the content sends the
    keep-alives, the protocol tells of clients that left, and a drain lets streams finish.
    """

    def __init__(self, events: Any, headers: Any = None, opened: Opened | None = None) -> None:
        """`opened` gets, once the head is sent, how else than by `events` a piece reaches the
        client. It gets nothing if somebody changes the events, or what is sent."""
        super().__init__(events, headers=headers)
        self._events, self._opened = events, opened

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Leave out the header `connection`: the protocol writes it."""
        kept = {name: value for name, value in (headers or {}).items() if name != "connection"}
        super().init_headers(kept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        if self._opened is not None and self.body_iterator is self._events:
            self._opened(straight(send))
        async for piece in self.body_iterator:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Straight:
    """The way to a client for the pieces of an answer whose head is sent, past ASGI."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self._transport: Any = cycle.transport

    @property
    def ready(self) -> bool:
        """Whether the client reads; else ASGI's `send` waits for it."""
        return not self._flow.write_paused and not self._cycle.disconnected

    def write(self, piece: bytes) -> None:
        """Send a piece. There must be no other in this turn of the event loop."""
        self._transport.write_now(b"%x\r\n%b\r\n" % (len(piece), piece))


def straight(send: Send) -> Straight | None:
    """None if anybody else has a say in what `send` writes, as for old clients."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is RequestResponseCycle and cycle.chunked_encoding:
        return Straight(cycle) if cycle.scope["method"] != "HEAD" else None
    return None
