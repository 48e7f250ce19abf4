from __future__ import annotations

import os
import socket
import sys

import pytest

from tests import ports as locked
from workers.process import ports

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_who_listens_where(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        inode = str(os.fstat(listener.fileno()).st_ino)
        assert ports.listeners()[inode] == (host, listener.getsockname()[1])
        assert inode in ports.sockets_of(os.getpid())
    assert inode not in ports.listeners()


def test_a_free_port_is_none_that_connections_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_given_from", lambda: 32_768)
    for _ in range(20):
        with socket.create_server(("127.0.0.1", locked.free())) as found:
            assert ports._LOWEST <= found.getsockname()[1] < 32_768
    monkeypatch.setattr(ports, "_given_from", lambda: ports._LOWEST)
    assert ports.free() > 0, "there is no room below them"


def test_a_connection_does_not_listen() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert str(os.fstat(client.fileno()).st_ino) not in ports.listeners()
