"""The sockets that an ingress (or the console) listens on, alone or together with others of one
machine."""

from __future__ import annotations

import contextlib
import socket


class ListenFailed(Exception):
    """The process cannot listen on the address. The message says what to do."""


def bound(
    host: str,
    port: int,
    stack: contextlib.ExitStack,
    *,
    shared: bool = False,
    what: str = "ingress",
) -> list[socket.socket]:
    """A socket for each address of `host`, bound before anything else begins, so that a taken port
    is found at once. Nobody can connect until the server listens. `shared`: other processes of this
    user may listen there, too, and the system divides the connections over those that do. `what`:
    who listens, for messages."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            # Without this, a port whose last owner has just ended would count as taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:  # without this, "::" would take 0.0.0.0, too
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            sockets.append(listener)
    except OSError as fault:
        raise ListenFailed(
            f"the {what} cannot listen on {host}:{port}: {fault.strerror or fault}. "
            "Name another address with --host and --port"
        ) from None
    return sockets


def port_of(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])
