"""A real whisper-server, built from source the first time (`tests.builders`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.builders import whisper
from tests.builders.whisper import Whisper
from tests.real.server import Server, running
from workers.process import ports


def built() -> Whisper:
    return whisper.build(lambda line: print(line, file=sys.stderr))


@contextmanager
def running_whisper(*options: str) -> Iterator[Server]:
    """A server with the small model on a free port, as long as the block lasts."""
    files = built()
    port = ports.free()
    place = ["--host", "127.0.0.1", "--port", str(port), "--model", str(files.model)]
    # Threads of ggml spin while they wait for one another: on a busy machine two of them were
    # measured to take 76 s for what one takes 5 s for.
    command = [str(files.server), *place, "--threads", "1", *options]
    with running(command, port, "server listening at") as server:
        yield server
