"""Ports of loopback: finds a free one, and tells whose program listens on one.

Linux says which process holds a socket: ``/proc/net/tcp`` has the socket's inode, and
``/proc/<pid>/fd`` its holders (proc(5)). Other systems do not say.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"
"""TCP_LISTEN in ``/proc/net/tcp``."""
_PROC = Path("/proc")
_GIVEN = _PROC / "sys/net/ipv4/ip_local_port_range"
_LOWEST = 20_000
"""Usual ports of programs are below."""
_TRIES = 100
_SOCKET = "socket:["


def free() -> int:
    """A port that nobody listens on now; another program may take it before ours does. It is none
    of those that the system gives to whoever wants any, as each connection that is opened gets one
    of them."""
    room = _given_from() - _LOWEST
    for _ in range(_TRIES if room > 0 else 0):
        port = _LOWEST + secrets.randbelow(room)
        if not taken(port):
            return port
    with socket.create_server((LOOPBACK, 0)) as found:
        return int(found.getsockname()[1])


def _given_from() -> int:
    """The first of the ports that the system gives (ip(7)); `_LOWEST` if it does not say."""
    try:
        return int(_GIVEN.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LOWEST


def taken(port: int) -> bool:
    """Whether the port cannot be bound, mostly because a program listens on it."""
    try:
        # This sets SO_REUSEADDR, so connections that ended a minute ago do not count.
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return True
    return False


def taken_by_another(port: int, leader: int) -> bool:
    """Whether the listener on `port` is surely outside the session that `leader` leads.

    False if this cannot be known: nobody listens, there is no ``/proc``, or a process belongs to
    another user or is about to end.
    """
    sockets = {f"{_SOCKET}{inode}]" for inode, (_, at) in listeners().items() if at == port}
    if not sockets:
        return False
    try:
        held = {each for pid in _session(leader) for each in _held(pid)}
    except OSError:  # not ours to look into, or it has just ended
        return False
    return bool(held) and not sockets & held  # a process about to end holds none


def listeners() -> dict[str, tuple[str, int]]:
    """Where programs of this machine listen: address and port by the socket's inode. Empty without
    ``/proc``."""
    found: dict[str, tuple[str, int]] = {}
    for table in ("tcp", "tcp6"):
        try:
            rows = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, rows):
            # Field 1 is the local address in hex, 3 the state, 9 the inode (proc(5)).
            if fields[3] == _LISTEN:
                address, _, port = fields[1].rpartition(":")
                found[fields[9]] = _address(address), int(port, 16)
    return found


def _address(text: str) -> str:
    """The kernel writes words of 32 bits, each as this machine has it in memory."""
    raw = b"".join(
        int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)
    )
    return str(ipaddress.ip_address(raw))


def sockets_of(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds. Raises OSError for one of another user."""
    found = set()
    for entry in (_PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            held = os.readlink(entry)
            if held.startswith(_SOCKET):
                found.add(held[len(_SOCKET) : -1])
    return found


def _session(leader: int) -> Iterator[int]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and _session_of(int(entry.name)) == leader:
            yield int(entry.name)


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _held(pid: int) -> Iterator[str]:
    for entry in (_PROC / str(pid) / "fd").iterdir():
        yield os.readlink(entry)
