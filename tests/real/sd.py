"""A real sd-server with weights of noise, built from source the first time (`tests.builders`)."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.builders import sd
from tests.builders.sd import Sd
from tests.real.server import Server, running
from workers.process import ports

MODEL = "random-flux"
"""As the server calls it: its file."""
DEFAULTS = ("--width", "128", "--height", "128", "--steps", "2", "--cfg-scale", "1")
"""As of the recorded answers (`tests.doubles.sdserver`)."""


def built() -> Sd:
    return sd.build(lambda line: print(line, file=sys.stderr))


@contextmanager
def running_sd(home: Path, *options: str) -> Iterator[Server]:
    """A server on a free port, as long as the block lasts, in the empty directory `home`: it lists
    what models there are in its own."""
    files = built()
    port = ports.free()
    weights = ["--diffusion-model", str(files.diffusion_model), "--tae", str(files.tae)]
    place = ["--clip_l", str(files.clip_l), "--listen-port", str(port)]
    # Threads of ggml spin while they wait for one another.
    command = [str(files.server), *weights, *place, "--threads", "1", *DEFAULTS, *options]
    with running(command, port, "listening on", home) as server:
        _answering(server, port)
        yield server


def _answering(server: Server, port: int) -> None:
    """It says that it listens, and then begins to."""
    while server.alive:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(f"sd-server ended: {server.log}")
