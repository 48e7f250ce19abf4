"""Starts, kills and restarts the embedded broker; see the package's docstring for its files."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from deploy.nats import binary, child
from deploy.nats import store as stores
from deploy.nats.config import ANY_PORT, LOG_NAME, ROLES, SYNC, ServerConfig, render
from deploy.nats.credentials import Users, obtain, write_private
from deploy.nats.errors import BrokerFailed, PortTaken
from workers.process import ports

CONFIG_NAME = "nats-server.conf"
WORDS_NAME = "nats-server.err"

_RESTORING = re.compile(r"Starting restore for stream '([^']+)'")
_LOOK_AGAIN = 0.005
"""Seconds between two looks at the ports file, which the server writes once it listens."""
_STOP_PATIENCE = 10.0
"""Seconds from SIGTERM to SIGKILL; an idle server ends in 2 ms."""
_PORT_PATIENCE = 5.0
"""Seconds that a restart waits for its own port. The kernel may give this port to a client that
reconnects over loopback; the client keeps it until it notices."""


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
        except PortTaken:  # another process took the port after we looked
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
        return self._child.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a crash would; the store stays claimed, so `restart` may follow."""
        child.kill(self._child)

    def stop(self) -> None:
        """SIGTERM: the server closes its store, and its clients see the connection end."""
        child.stop(self._child, _STOP_PATIENCE)
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
        for stale in self.store.glob("*.ports"):  # a server that was killed leaves its own behind
            stale.unlink()
        command = [str(self._program), "-c", str(file)]
        # The server keeps the lock, too, as it may outlive this process for a moment.
        self._child = child.spawn(command, words=self.store / WORDS_NAME, keep=(self._lock,))
        try:
            self._address = self._ready()
        except BaseException:
            self.kill()
            raise
        # A restart keeps the ports that clients know by now.
        self._config = replace(
            self._config,
            port=urlsplit(self.url).port or ANY_PORT,
            http_port=urlsplit(self.http_url).port or ANY_PORT,
        )
        stores.note(self.store, self._address)

    def _ready(self) -> stores.Address:
        file = self.store / f"{self._program.name}_{self._child.pid}.ports"
        deadline = time.monotonic() + self._ready_within
        while self.alive:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # or half written
                urls = json.loads(file.read_text())
                return stores.Address(urls["nats"][0], urls["monitoring"][0], self._child.pid)
            if time.monotonic() > deadline:
                raise BrokerFailed(
                    f"nats-server is not ready after {self._ready_within:g} s"
                    f"{stuck(_lines(self.log))}; see {self.log}"
                )
            time.sleep(_LOOK_AGAIN)
        raise self._post_mortem()

    def _post_mortem(self) -> BrokerFailed:
        mark = f"[{self._child.pid}]"
        fatal = [line for line in _lines(self.log) if line.startswith(mark) and "[FTL]" in line]
        said = "; ".join([*_lines(self.store / WORDS_NAME), *fatal][-3:]) or "nothing said"
        # Go's text of EADDRINUSE: the server has no other way to tell.
        kind = PortTaken if "address already in use" in said else BrokerFailed
        return kind(f"nats-server ended with code {self._child.returncode}: {said}; see {self.log}")


@contextlib.contextmanager
def start(
    store: Path,
    port: int = 4222,
    http_port: int = 8222,
    *,
    sync: str = SYNC,
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
        users = obtain(home, ROLES)
        config = ServerConfig(home, users, _free(port), _free(http_port), sync)
        broker = Broker(config, program, lock, ready_within)
        try:
            yield broker
        finally:
            broker.stop()


def _free(port: int) -> int:
    """`port` if nobody listens there, else ANY_PORT. The server would find out for itself, but only
    after it has recovered its store."""
    return ANY_PORT if port == 0 or ports.taken(port) else port


def stuck(lines: list[str]) -> str:
    """Which stream the server reads: with a damaged file it may do so for ever (measured)."""
    begun = [found for line in lines if (found := _RESTORING.search(line))]
    if not begun or any(f"messages for stream '{begun[-1][1]}'" in line for line in lines):
        return ""
    return f", as it reads the stream {begun[-1][1]!r}, whose files may be damaged"


def _lines(file: Path) -> list[str]:
    """No lines where there is no such file."""
    return file.read_text(errors="replace").splitlines() if file.exists() else []
