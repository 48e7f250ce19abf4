"""Runs ``headrace ROLE …`` and counts the functions of ours that it enters while it is told to.

    python -m tests.bench.trace_child SOCKET ROLE [options of the role]

It listens on the Unix socket SOCKET for one client and its lines: ``start`` is answered with an
empty line, ``stop`` with one line of JSON, what was entered in between: ``[{file, function, at},
…]``, `at` being the times of all calls in seconds of the monotonic clock, which the processes of
one machine share.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import orjson

from tests import forks

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "ingress", "workers", "fallback", "deploy")


class Recorder:
    """Calls of each function of ours since `start`. Going on with a coroutine is a call, too."""

    def __init__(self) -> None:
        self._on = False
        self._calls: dict[CodeType, list[float]] = {}
        self._folders = tuple(f"{ROOT / name}{os.sep}" for name in PACKAGES)

    def install(self) -> None:
        """For this thread and those that it starts."""
        threading.setprofile(self._entered)
        sys.setprofile(self._entered)

    def start(self) -> None:
        self._calls = {}
        self._on = True

    def stop(self) -> list[dict[str, Any]]:
        self._on = False
        return [
            {
                "file": str(Path(code.co_filename).relative_to(ROOT)),
                "function": code.co_qualname,
                "at": times,
            }
            for code, times in list(self._calls.items())
            if code.co_name != "<module>"
        ]

    def _entered(self, frame: FrameType, event: str, _: object) -> None:
        if not self._on or event != "call":
            return
        code = frame.f_code
        if code.co_filename.startswith(self._folders):
            self._calls.setdefault(code, []).append(time.monotonic())


def listen(path: str, recorder: Recorder) -> None:
    """Answer the one client from a thread of its own, which is not recorded."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=_serve, args=(listener, recorder), daemon=True).start()


def _serve(listener: socket.socket, recorder: Recorder) -> None:
    client, _ = listener.accept()
    with client.makefile("rb") as lines:
        for line in lines:
            if line.strip() == b"start":
                recorder.start()
                client.sendall(b"\n")
            else:
                client.sendall(orjson.dumps(recorder.stop()) + b"\n")


def main() -> None:
    from deploy import cli

    forks.load()  # recorded, that takes thrice as long
    recorder = Recorder()
    listen(sys.argv[1], recorder)
    recorder.install()
    sys.argv = ["headrace", *sys.argv[2:]]
    cli.main()


if __name__ == "__main__":
    main()
