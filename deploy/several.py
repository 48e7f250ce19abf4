"""Several processes as one ingress: the system divides the connections to one port over them.

This process serves nobody. It keeps the port, starts the others, starts one again that ends, and
passes on what it is told: SIGTERM, SIGINT and SIGHUP. They end with it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog

from deploy import configure
from deploy.configure import Where
from ingress.http.listeners import ListenFailed, bound, port_of
from ingress.siblings import SIGNED_BY
from schemas.settings import ENV_PREFIX, Ingress
from schemas.settings.base import NESTED
from workers.process.program import Command
from workers.process.supervisor import Supervisor

log = structlog.get_logger("ingress")

SLACK = 7.0
"""Seconds that a process may take to end beyond the time for its answers."""
_LOOK = 0.1
"""Seconds between two looks whether a process listens by now."""
_PREFIX = "headrace-"
_LONGEST = 70
"""Bytes of the folder's place: a socket's address has 107 at most."""
_ONCE = {f"{ENV_PREFIX}JOIN"}
"""What this process has done for all."""

Make = Callable[[int, Path], Command]
"""The command of one process, by the port and its own socket."""


class Several:
    def __init__(self, edge: Ingress, make: Make) -> None:
        self._edge = edge
        self._make = make
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        self._parts: list[_Part] = []

    async def run(self) -> None:
        """Until it is told to stop, and all answers have ended. Raises ListenFailed."""
        if sys.platform != "linux":
            raise ListenFailed(
                "several processes on one port need Linux, which divides connections over them: "
                "leave --processes and [ingress] processes out"
            )
        with contextlib.ExitStack() as stack:
            port = self._claimed(stack)
            place = Path(_place())
            _sweep(place)
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place))
            )
            _keep_secret(folder, stack)
            for number in range(1, self._edge.processes + 1):
                socket = folder / f"{number}.sock"
                self._parts.append(_Part(self._make(port, socket), socket, self._news.set))
            await self._serve()

    def _claimed(self, stack: contextlib.ExitStack) -> int:
        """The port. It stays ours while no process listens, as it may be any free one."""
        host, port = self._edge.host, self._edge.port
        with contextlib.ExitStack() as probe:  # finds who listens there already in the same way
            bound(host, port, probe)
        return port_of(bound(host, port, stack, shared=True))

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        try:
            for part in self._parts:
                part.supervisor.start()
            await self._watch()
        finally:
            patience = self._edge.drain + SLACK
            await asyncio.gather(*(part.supervisor.stop(patience) for part in self._parts))

    async def _watch(self) -> None:
        """Raises ListenFailed for a process that ends before it has ever listened: the others would
        fare no better."""
        told = False
        while not self._stop.is_set():
            self._news.clear()
            for part in self._parts:
                part.look()
                if part.supervisor.ends and not part.has_listened:
                    raise ListenFailed(f"an ingress does not start: {part.supervisor.reason}")
            whole = all(part.listens for part in self._parts)
            if whole and not told:
                log.info("ingress.together", processes=len(self._parts))
            told = told or whole
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if whole else _LOOK):
                    await self._news.wait()

    def _told_to_stop(self) -> None:
        self._stop.set()
        self._news.set()

    def _hung_up(self) -> None:
        for part in self._parts:
            part.hang_up()
        self._news.set()


class _Part:
    """One process. `listens`: it takes connections now, as its socket says."""

    def __init__(self, command: Command, socket: Path, changed: Callable[[], None]) -> None:
        self.supervisor = Supervisor(f"ingress {socket.stem}", command, self._moved)
        self.listens = self.has_listened = False
        self._hung_up = False
        """It is to read its settings once it listens: before, a signal would end it."""
        self._socket = socket
        self._changed = changed

    def look(self) -> None:
        if not self.listens and self.supervisor.state == "ready" and self._socket.exists():
            self.listens = self.has_listened = True
            if self._hung_up:
                self.hang_up()

    def hang_up(self) -> None:
        self._hung_up = not self.listens
        if self.listens:
            self.supervisor.hang_up()

    def _moved(self) -> None:
        if self.supervisor.state == "failed":
            self.has_listened |= self._socket.exists()
            self.listens = False
            self._socket.unlink(missing_ok=True)
        self._changed()


def of(edge: Ingress, where: Where, log_level: str | None, log_form: str | None) -> Several:
    """Those of one `headrace ingress`, by what its command said. Raises SettingsError."""
    options = {"--config": where.config, "--log-level": log_level, "--log": log_form}
    said = [str(part) for each in options.items() if each[1] is not None for part in each]
    # -P: else Python would import a folder `deploy` in the user's working directory.
    program = (sys.executable, "-P", "-m", "deploy", "ingress", "--data", str(where.data), *said)
    env = _environment(configure.split_login(where.nats) if where.nats is not None else {})

    def make(port: int, socket: Path) -> Command:
        place = ("--host", edge.host, "--port", str(port), "--processes", str(edge.processes))
        return Command((*program, *place, "--of", str(socket)), env, is_ours=True)

    return Several(edge, make)


def _environment(nats: dict[str, str]) -> dict[str, str]:
    """Our own variables, which no other program gets. `nats`: what --nats said, as other users
    could read it in a command."""
    own = {k: v for k, v in os.environ.items() if k.startswith(ENV_PREFIX) and k not in _ONCE}
    return {**own, **{f"{ENV_PREFIX}NATS{NESTED}{k.upper()}": text for k, text in nats.items()}}


def _place() -> str:
    """A folder whose name is not too long for sockets in it."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= _LONGEST else "/tmp"  # noqa: S108 - made for us alone


def _keep_secret(folder: Path, stack: contextlib.ExitStack) -> None:
    """Write the secret, and lock it until the end of this process, however that comes."""
    made = folder / "new"
    made.touch(0o600)
    file = stack.enter_context(made.open("wb", buffering=0))
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(secrets.token_bytes(32))
    made.rename(folder / SIGNED_BY)  # now, as `_sweep` takes one without a lock for left behind


def _sweep(place: Path) -> None:
    """Remove the folders of parents that were killed: nobody else would, and each has a secret."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                continue
            with (folder / SIGNED_BY).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
