"""How the console's server treats connections: as an ingress does, and some become WebSockets."""

from __future__ import annotations

from ingress.http.connections import Connections
from ingress.http.protocol import LimitedProtocol, protocol

MOST = 1024
"""Connections at a time. One more closes the one that is idle longest."""
_MAX_HEAD = 32 * 1024


class PageProtocol(LimitedProtocol):
    """One that also becomes a WebSocket, whose connection keeps its place, and is not idle."""

    def _offers(self) -> bool:
        return not self._should_upgrade() and super()._offers()

    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        self._idle.pop(self, None)
        super().handle_websocket_upgrade()
        socket = self.transport.get_protocol()
        lost = socket.connection_lost

        def closed(exc: Exception | None) -> None:
            self.places.closed(self)
            lost(exc)

        socket.connection_lost = closed  # type: ignore[method-assign]


def made(proxied: bool) -> type[LimitedProtocol]:
    """`proxied`: all connections may come from one address, which is a proxy's. Else one address
    has half of them."""
    return protocol(_MAX_HEAD, Connections(MOST, MOST if proxied else 0), PageProtocol)
