"""Writes a whole answer in one piece, where uvicorn and Starlette pass it on as two messages, of
which each is looked into."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from ingress.http.body import CYCLE

_ODD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no header has, beside the end of a line, which would begin another."""
_OWN = frozenset({b"connection", b"transfer-encoding", b"content-length"})
"""Headers by which uvicorn goes."""


def write(state: dict[str, Any], response: Response) -> bool:
    """Write `response`, which has no way of its own to be written. False if that is left to
    uvicorn: to a client that reads slowly, of another version or method, or is to be closed."""
    cycle = state.get(CYCLE)
    if cycle is None or not response.body:
        return False
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
        return False
    if cycle.scope["method"] != "POST" or not cycle.keep_alive:
        return False
    headers = [*cycle.default_headers, *response.raw_headers]
    own = [pair for pair in headers if pair[0] in _OWN]
    if own != [(b"content-length", b"%d" % len(response.body))]:
        return False
    head = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    if head.count(b"\n") + head.count(b"\r") != 2 * len(headers) or _ODD.search(head):
        return False
    line = STATUS_LINE[response.status_code]
    cycle.transport.write(b"".join((line, head, b"\r\n", response.body)))
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    cycle.on_response()
    return True
