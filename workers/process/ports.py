"""Ports of loopback: a free one, and whose program listens on one.

Linux tells by which process a socket is held: ``/proc/net/tcp`` has its inode, ``/proc/<pid>/fd``
the holders (proc(5)). Elsewhere nothing is told.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"
_PROC = Path("/proc")


def free() -> int:
    """A port that nobody listens on now; the program that it is meant for may still lose it."""
    with socket.create_server((LOOPBACK, 0)) as found:
        return int(found.getsockname()[1])


def taken(port: int) -> bool:
    """Whether a program listens on it, or it cannot be had for another reason."""
    try:
        # With SO_REUSEADDR, so that connections which ended a minute ago do not count.
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return True
    return False


def strange(port: int, leader: int) -> bool:
    """Whether the listener on `port` is for sure no process of the session that `leader` leads.

    False where it cannot be known: nobody listens, no ``/proc``, processes of other users or at
    their end.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return False
    try:
        held = {each for pid in _session(leader) for each in _held(pid)}
    except OSError:  # one that may not be looked into, or has just ended
        return False
    return bool(held) and not sockets & held  # who is about to end holds nothing any more


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on `port`, at whatever address."""
    for table in ("tcp", "tcp6"):
        try:
            rows = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, rows):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


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
