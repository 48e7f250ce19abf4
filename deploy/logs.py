"""Logs of the processes that ``headrace up`` runs: ``<data>/logs/<process>.log``, JSON lines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

PROCESSES = ("ingress", "worker")
_LOOK_AGAIN = 0.2
_PIECE = 2**20


def folder(data: Path) -> Path:
    return data / "logs"


def file(logs: Path, process: str) -> Path:
    return logs / f"{process}.log"


def prepare(data: Path) -> Path:
    """The folder with new, empty logs (0600); those of the run before are kept as ``.log.1``."""
    made = folder(data)
    made.mkdir(mode=0o700, parents=True, exist_ok=True)
    for process in PROCESSES:
        path = file(made, process)
        if path.exists():
            path.replace(path.with_name(f"{path.name}.1"))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    return made


async def follow(logs: Path, say: Callable[[str, str], None]) -> None:
    """Call `say(process, line)` for each line that is added, for ever.

    The processes write into files and not through us: a terminal that is stopped with Ctrl-S must
    not stop them.
    """
    with (
        file(logs, "ingress").open("rb", buffering=0) as ingress,
        file(logs, "worker").open("rb", buffering=0) as worker,
    ):
        rest = dict.fromkeys(PROCESSES, b"")
        while True:
            for process, source in zip(PROCESSES, (ingress, worker), strict=True):
                *lines, rest[process] = (rest[process] + source.read(_PIECE)).split(b"\n")
                for line in lines:
                    say(process, line.decode(errors="replace"))
            await asyncio.sleep(_LOOK_AGAIN)
