"""A part of the fabric for `tests.bench.otel`, which begins and ceases to tell on demand:
``python -m tests.bench.otel_child SOCKET COMMAND …``. A line ``on`` or ``off`` at the socket says
which, and is answered by an empty one. What is not told of is as where telemetry is off.
"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any

from ingress.app import Handler


class Switch:
    """Of all endpoints of an ingress. A worker tells of what its ingress does."""

    def __init__(self) -> None:
        self._made: list[tuple[Handler, Any]] = []

    def install(self) -> None:
        """Know each endpoint that is made from now on."""
        original, made = Handler.__init__, self._made

        def known(handler: Handler, *arguments: Any, **named: Any) -> None:
            original(handler, *arguments, **named)
            made.append((handler, handler._telemetry))

        Handler.__init__ = known  # type: ignore[assignment, method-assign]

    def turn(self, *, on: bool) -> None:
        for handler, telemetry in self._made:
            handler._telemetry = telemetry if on else None


def _serve(listener: socket.socket, switch: Switch) -> None:
    """Answer the one client."""
    client, _ = listener.accept()
    with client.makefile("rb") as lines:
        for line in lines:
            switch.turn(on=line.strip() == b"on")
            client.sendall(b"\n")


def main() -> None:
    from deploy import cli

    switch = Switch()
    switch.install()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    threading.Thread(target=_serve, args=(listener, switch), daemon=True).start()
    sys.argv = ["headrace", *sys.argv[2:]]
    cli.main()


if __name__ == "__main__":
    main()
