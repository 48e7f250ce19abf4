"""Starts, kills and restarts the embedded broker; see the package's docstring for its files."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from deploy.nats import binary
from deploy.nats import store as stores
from deploy.nats.child import Child
from deploy.nats.config import ANY_PORT, LOG_NAME, ROLES, ServerConfig, render
from deploy.nats.credentials import Users, obtain, write_private
from deploy.nats.errors import BrokerFailed, PortTaken

CONFIG_NAME = "nats-server.conf"
WORDS_NAME = "nats-server.err"
HOST = "127.0.0.1"

_LOOK_AGAIN = 0.005
"""Seconds between two looks at the ports file, which the server writes once it listens."""
_STOP_PATIENCE = 10.0
"""Seconds from SIGTERM to SIGKILL; an idle server ends in 2 ms."""
_PORT_PATIENCE = 5.0
"""Seconds for a restart to get its own port back: a client that reconnects over loopback may be
given the very port it calls as its own, and holds it until it notices."""
_TAIL = 64 * 2**10


class Broker:
    """A running nats-server. Made by `start`; not thread-safe.

    `users` maps each role to (user, password); `store` is the directory, `log` the server's log.
    """

    def __init__(self, config: ServerConfig, program: Path, lock: int, ready_within: float) -> None:
        self.store = config.store
        self.log = config.store / LOG_NAME
        self.users: Users = dict(config.users)
        self._config = config
        self._program = program
        self._lock = lock
        self._ready_within = ready_within
        try:
            self._boot()
        except PortTaken:  # by somebody who came between the look at the port and the server
            self._config = replace(config, port=ANY_PORT, http_port=ANY_PORT)
            self._boot()

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:PORT``, without credentials."""
        return self._address.url

    @property
    def http_url(self) -> str:
        """The monitoring endpoints: ``/healthz``, ``/varz``, ``/connz``, ``/jsz``."""
        return self._address.http_url

    @property
    def pid(self) -> int:
        return self._address.pid

    @property
    def alive(self) -> bool:
        return not self._child.exited.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, whoever ended it; False after `timeout` seconds."""
        return self._child.exited.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash would; the store stays claimed, so `restart` may follow."""
        self._child.kill()

    def stop(self) -> None:
        """SIGTERM: the server closes its store, and its clients see the connection end."""
        self._child.stop(_STOP_PATIENCE)
        stores.note(self.store, None)

    def restart(self) -> None:
        """Run again on the same ports and store, ended first if need be; `pid` changes.

        Raises PortTaken when somebody else has taken a port meanwhile and keeps it.
        """
        self.stop()
        deadline = time.monotonic() + _PORT_PATIENCE
        while True:
            try:
                return self._boot()
            except PortTaken:
                if time.monotonic() > deadline:
                    raise

    def _boot(self) -> None:
        file = self.store / CONFIG_NAME
        write_private(file, render(self._config))
        for stale in self.store.glob("*.ports"):
            stale.unlink()
        self._child = Child(
            [str(self._program), "-c", str(file)], words=self.store / WORDS_NAME, keep=(self._lock,)
        )
        try:
            self._address = self._ready()
        except BaseException:
            self._child.kill()
            raise
        self._config = replace(
            self._config,
            port=urlsplit(self.url).port or ANY_PORT,
            http_port=urlsplit(self.http_url).port or ANY_PORT,
        )
        stores.note(self.store, self._address)

    def _ready(self) -> stores.Address:
        pid = self._child.pid
        ports = self.store / f"{self._program.name}_{pid}.ports"
        deadline = time.monotonic() + self._ready_within
        while not self._child.exited.wait(_LOOK_AGAIN):
            urls = _read_ports(ports)
            if urls:
                return stores.Address(*urls, pid)
            if time.monotonic() > deadline:
                raise BrokerFailed(
                    f"nats-server is not ready after {self._ready_within:g} s; see {self.log}"
                )
        raise self._post_mortem()

    def _post_mortem(self) -> BrokerFailed:
        log, mark = _tail(self.log), f"[{self._child.pid}]"
        lines = [line for line in log if line.startswith(mark) and "[FTL]" in line]
        said = "; ".join((_tail(self.store / WORDS_NAME) + lines)[-3:]) or "nothing said"
        # Go's text of EADDRINUSE: the server has no other way to tell.
        kind = PortTaken if "address already in use" in said else BrokerFailed
        return kind(f"nats-server ended with code {self._child.code}: {said}; see {self.log}")


@contextmanager
def start(
    store: Path,
    port: int = 4222,
    http_port: int = 8222,
    *,
    name: str = "headrace",
    sync_always: bool = False,
    ready_within: float = 30.0,
) -> Iterator[Broker]:
    """A broker on loopback, its store in the directory `store`, until the block is left.

    A port of 0 is any free port; so is one that is taken. The broker is ready when this returns,
    and ends with this process however that ends. `ready_within` (seconds) covers the recovery of
    the store. Raises a `BrokerError`; each says what to do.
    """
    program = binary.find()
    home = store.expanduser().absolute()
    with stores.claimed(home) as lock:
        config = ServerConfig(
            store=home,
            users=obtain(home, ROLES),
            host=HOST,
            port=_free(port),
            http_port=_free(http_port),
            name=name,
            sync_always=sync_always,
        )
        broker = Broker(config, program, lock, ready_within)
        try:
            yield broker
        finally:
            broker.stop()


def _free(port: int) -> int:
    """`port` if nobody listens there, else ANY_PORT. The server is the judge; this spares it a
    vain recovery of its store."""
    if port == 0:
        return ANY_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as fault:
            return ANY_PORT if fault.errno == errno.EADDRINUSE else port
    return port


def _read_ports(file: Path) -> tuple[str, str] | None:
    """The URLs for clients and for monitoring; None while the file is not there, or not whole."""
    try:
        ports = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return ports["nats"][0], ports["monitoring"][0]


def _tail(file: Path) -> list[str]:
    """The last lines of `file`; none if there is no file."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
            return log.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
