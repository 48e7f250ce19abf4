"""A real nats-server with a configuration of its own: one that others run, or a leaf of ours."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.nats import binary
from tests.fabric import PATIENCE
from workers.process import die_with_parent

_LOOK_AGAIN = 0.005


class Server:
    """`url`: where clients connect. `log`: what it has said."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self.log = folder / "nats-server.log"
        self._process = subprocess.Popen(die_with_parent.wrap(command), env=environment, cwd=folder)
        self.url = self._ready(folder)

    def _ready(self, folder: Path) -> str:
        ports = folder / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                return str(json.loads(ports.read_text())["nats"][0])
            except (FileNotFoundError, json.JSONDecodeError):  # or half written
                time.sleep(_LOOK_AGAIN)
        self.stop()
        raise AssertionError(self.log.read_text() if self.log.exists() else "it said nothing")

    def pause(self) -> None:
        """It says nothing, as if its lines were cut."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def server(
    folder: Path, config: dict[str, Any], more: str = "", environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """It listens on a free port until the block is left. `more`: further text of its
    configuration, as it is."""
    folder.mkdir(exist_ok=True)
    whole = {"listen": "127.0.0.1:-1", "ping_interval": "2s", **config}
    path = folder / "server.conf"
    path.write_text("\n".join([*(f"{k}: {json.dumps(v)}" for k, v in whole.items()), more]))
    with started(folder, path, environment) as running:
        yield running


@contextmanager
def started(
    folder: Path, config: Path, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """One with this file as its configuration."""
    command = [str(binary.find()), "-c", str(config), "--ports_file_dir", str(folder)]
    log = str(folder / "nats-server.log")
    running = Server(folder, [*command, "--log", log], environment or {})
    try:
        yield running
    finally:
        running.stop()
