"""A client that ends its side of a connection before its answer may still listen, or be gone.

Both look the same until something is sent. A client that only has no more to ask takes it. If the
client has left, its system refuses it. What is sent is the first byte of the answer, which is the
same for all answers.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

_FIRST, _LONGEST = 0.001, 0.25
"""Seconds between two looks at first, and at most."""


class HalfClosed:
    """Until the connection closes, looks whether the client's system refused what was sent. Nobody
    else would notice, as there is nothing more to read."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._pause = _FIRST
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._pause, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if self._transport.is_closing():
            return
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # a reset came
            self._transport.abort()
            return
        self._pause = min(2 * self._pause, _LONGEST)
        self._timer = self._loop.call_later(self._pause, self._look)
