"""Where an event stream says that it is over, at each API."""

from __future__ import annotations

import re

LAST = re.compile(rb"^event: ?(response\.(completed|incomplete|failed)|message_stop)", re.MULTILINE)
"""Streams of the responses and messages APIs end with these, and without ``[DONE]``."""
_OVER = re.compile(rb"^data: ?\[DONE\]|" + LAST.pattern, re.MULTILINE)


def end_of(events: bytes) -> int:
    """Where the event begins that says that a stream of text is over; -1 if there is none."""
    if b"[DONE]" not in events and b"event:" not in events:
        return -1
    found = _OVER.search(events)
    return found.start() if found else -1
