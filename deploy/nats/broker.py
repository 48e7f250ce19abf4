"""Starts, kills and restarts the embedded broker; see the package's docstring for its files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from deploy.nats import binary, child, joined, server_log
from deploy.nats import store as stores
from deploy.nats.config import ANY_PORT, LOG_NAME, SYNC, ServerConfig, render
from deploy.nats.credentials import Users, obtain, write_private
from deploy.nats.errors import BrokerFailed, PortTaken
from deploy.nats.rights import ROLES, Login
from deploy.nats.shared import Shared, prepare
from schemas.settings import Share
from workers.process import ports

CONFIG_NAME = "nats-server.conf"
WORDS_NAME = "nats-server.err"

_LOOK_AGAIN = 0.005
"""Seconds between two looks at the ports file, which the server writes once it listens."""
_STOP_PATIENCE = 10.0
"""Seconds from SIGTERM to SIGKILL; an idle server ends in 2 ms."""
_PORT_PATIENCE = 5.0
"""Seconds that a restart waits for its own port. If it is one of those that the kernel gives, a
client that reconnects over loopback may have it, until the client notices."""


class Broker:
    """A running nats-server. Made by `start`; not thread-safe.

    `users` maps each role to (user, password); `store` is the directory, `log` the server's log.
    """

    def __init__(
        self,
        config: ServerConfig,
        program: Path,
        lock: int,
        ready_within: float,
        shared: Shared | None = None,
        cores: int = 0,
    ) -> None:
        self.store = config.store
        self.log = config.store / LOG_NAME
        self.users: Users = dict(config.users)
        self._config = self._booted = config
        self._program = program
        self._lock = lock
        self._ready_within = ready_within
        self._variables = {"GOMAXPROCS": str(cores)} if cores else {}
        self._shared = shared
        self._shown = shared.shown if shared is not None else b""
        try:
            self._boot()
        except PortTaken:  # another process took the port after we looked
            if shared is not None:  # other machines know it
                raise
            pages = None if config.http_port is None else ANY_PORT
            self._config = replace(config, port=ANY_PORT, http_port=pages)
            self._boot()

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:PORT``, or ``tls://…`` of one that is shared, without credentials."""
        return self._address.url

    @property
    def addresses(self) -> tuple[str, ...]:
        """How other machines call it; none if they do not reach it."""
        return self._address.addresses

    @property
    def http_url(self) -> str:
        """The monitoring endpoints: ``/healthz``, ``/varz``, ``/connz``, ``/jsz``; "" without."""
        return self._address.http_url

    @property
    def joined(self) -> tuple[Login, ...]:
        """Logins beside those of the roles."""
        return self._config.joined

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

    def admit(self, logins: tuple[Login, ...]) -> None:
        """Write down who else may log in, for each start from now on; a server that runs goes by it
        once it has reloaded its configuration. Raises OSError."""
        joined.keep(self.store, logins)
        self._config = replace(self._config, joined=logins)
        # It takes no other ports at a reload than it was started with, be they any.
        self._booted = replace(self._booted, joined=logins)
        write_private(self.store / CONFIG_NAME, render(self._booted))

    def renew(self) -> bool:
        """Have the server show a certificate that does not end soon; whether it is another one than
        before. No connection ends by it. Raises StoreUnusable, OSError."""
        if self._shared is None:
            return False
        prepare(self.store, self._shared.share)
        before, self._shown = self._shown, self._shared.shown
        if self._shown == before:
            return False
        os.kill(self.pid, signal.SIGHUP)
        return True

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
        self._booted = self._config
        write_private(file, render(self._booted))
        for stale in self.store.glob("*.ports"):  # a server that was killed leaves its own behind
            stale.unlink()
        self._run(file)
        if spoilt := server_log.spoilt(self.store, self._said()):
            child.stop(self._child, _STOP_PATIENCE)
            server_log.drop(spoilt)
            self._run(file)
        # A restart keeps the ports that clients know by now.
        self._config = replace(
            self._config,
            port=urlsplit(self.url).port or ANY_PORT,
            http_port=urlsplit(self.http_url).port,
        )
        stores.note(self.store, self._address)

    def _run(self, config: Path) -> None:
        command = [str(self._program), "-c", str(config)]
        # The server keeps the lock, too, as it may outlive this process for a moment.
        words = self.store / WORDS_NAME
        self._child = child.spawn(
            command, words=words, keep=(self._lock,), variables=self._variables
        )
        try:
            self._address = self._ready()
        except BaseException:
            self.kill()
            raise

    def _said(self) -> list[str]:
        """The log of this run."""
        return server_log.of_process(server_log.lines(self.log), self._child.pid)

    def _ready(self) -> stores.Address:
        file = self.store / f"{self._program.name}_{self._child.pid}.ports"
        deadline = time.monotonic() + self._ready_within
        while self.alive:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # or half written
                urls = json.loads(file.read_text())
                pages = urls.get("monitoring") or [""]
                return self._addressed(urls["nats"][0], pages[0])
            if time.monotonic() > deadline:
                raise BrokerFailed(
                    f"nats-server is not ready after {self._ready_within:g} s"
                    f"{server_log.stuck(server_log.lines(self.log))}; see {self.log}"
                )
            time.sleep(_LOOK_AGAIN)
        raise self._post_mortem()

    def _addressed(self, url: str, pages: str) -> stores.Address:
        shared, pid = self._shared, self._child.pid
        if shared is None:
            return stores.Address(url, pages, pid)
        known = (shared.ca, shared.tls_name, shared.addresses, shared.fingerprint)
        return stores.Address(shared.url, pages, pid, *known)

    def _post_mortem(self) -> BrokerFailed:
        fatal = [line for line in self._said() if "[FTL]" in line]
        words = server_log.lines(self.store / WORDS_NAME)
        said = "; ".join([*words, *fatal][-3:]) or "nothing said"
        # Go's text of EADDRINUSE: the server has no other way to tell.
        taken = "address already in use" in said
        if taken and self._shared is not None:
            return PortTaken(
                f"the port of {self._shared.url}, or that for WebSockets, is taken: other machines "
                "are to find it, so name a free one in [share] port, or end what listens there"
            )
        kind = PortTaken if taken else BrokerFailed
        return kind(f"nats-server ended with code {self._child.returncode}: {said}; see {self.log}")


@contextlib.contextmanager
def start(
    store: Path,
    port: int = 4222,
    http_port: int | None = None,
    *,
    sync: str = SYNC,
    ready_within: float = 30.0,
    share: Share | None = None,
    cores: int = 0,
) -> Iterator[Broker]:
    """A broker on loopback, its store in the directory `store`, until the block is left. With
    `share` it listens as that says, and with TLS.

    A port of 0 is any free port; so is one that is taken. `http_port`: of the monitoring page,
    which asks for no login; None: there is none. The broker is ready when this returns, and ends
    with this process however that ends. `ready_within` (seconds) covers the recovery of the store.
    `cores`: how many it computes on, unless GOMAXPROCS is set; 0: all.
    Raises a `BrokerError`; each says what to do.
    """
    program = binary.find()
    home = store.expanduser().absolute()
    with stores.claimed(home) as lock:
        users = obtain(home, ROLES)
        pages = None if http_port is None else _free(http_port)
        shared = prepare(home, share) if share is not None and share.host else None
        if shared is not None and share is not None:
            config = ServerConfig(home, users, share.port, pages, sync, more=shared.config)
        else:
            config = ServerConfig(home, users, _free(port), pages, sync)
        config = replace(config, joined=joined.load(home))
        broker = Broker(config, program, lock, ready_within, shared, cores)
        try:
            yield broker
        finally:
            broker.stop()


def _free(port: int) -> int:
    """`port` if nobody listens there, else another one, that no connection gets while the server is
    away. The server would find out for itself, but only after it has recovered its store."""
    return ports.free() if port == 0 or ports.taken(port) else port
