"""Passwords are asked for, and are shown nowhere."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from deploy.nats import broker
from deploy.nats.broker import Broker
from tests.integration.deploy.roles import PATIENCE, connected, page, port_of


def _login(to: Broker, **login: str) -> str:
    """What the server says to this CONNECT, until it hangs up."""
    with socket.create_connection(("127.0.0.1", port_of(to.url)), PATIENCE) as line:
        line.sendall(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
        return b"".join(iter(lambda: line.recv(4096), b"")).decode()


async def test_secrets_are_in_private_files_alone(tmp_path: Path) -> None:
    with broker.start(tmp_path, 0, 0) as running:
        for role in ("worker", "ingress", "admin", "sys"):
            async with connected(running, role) as someone:
                await someone.settled()
        assert "Authorization Violation" in _login(running, user="worker", **{"pass": "wrong"})
        process = Path("/proc") / str(running.pid)
        exposed = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        for shown in ("/varz", "/connz?auth=true", "/accountz?acc=HEADRACE", "/subsz?subs=1"):
            exposed += json.dumps(page(running, shown)).encode()
        exposed += repr(running).encode()
    private = {"credentials", "nats-server.conf"}
    for path in tmp_path.iterdir():
        if path.name in private:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        elif path.is_file():
            exposed += path.read_bytes()
    assert b"authentication error" in exposed
    assert not [role for role, (_, word) in running.users.items() if word.encode() in exposed]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize("login", [{}, {"user": "worker", "pass": "x"}, {"auth_token": "x"}])
def test_nobody_enters_without_a_password(shared: Broker, login: dict[str, str]) -> None:
    assert "Authorization Violation" in _login(shared, **login)
