"""Logs of the processes that ``headrace up`` runs: ``<data>/logs/<process>.log``, JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

PROCESSES = ("ingress", "worker", "fallback")
_LOOK_AGAIN = 0.2
_PIECE = 2**20


def folder(data: Path) -> Path:
    return data / "logs"


def file(data: Path, process: str) -> Path:
    return folder(data) / f"{process}.log"


def prepare(data: Path) -> None:
    """Make new, empty logs (0600); those of the run before are kept as ``.log.1``."""
    folder(data).mkdir(mode=0o700, parents=True, exist_ok=True)
    for process in PROCESSES:  # `follow` opens them all, also that of a fallback that never starts
        path = file(data, process)
        if path.exists():
            path.replace(path.with_name(f"{path.name}.1"))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


async def follow(data: Path, say: Callable[[str, str], None]) -> None:
    """Call `say(process, line)` for each line that is added, for ever.

    The processes write into files and not through this one, because a terminal that is stopped with
    Ctrl-S must not stop them.
    """
    with contextlib.ExitStack() as stack:
        sources = {
            process: stack.enter_context(file(data, process).open("rb", buffering=0))
            for process in PROCESSES
        }
        rest = dict.fromkeys(PROCESSES, b"")
        while True:
            for process, source in sources.items():
                *lines, rest[process] = (rest[process] + source.read(_PIECE)).split(b"\n")
                for line in lines:
                    say(process, line.decode(errors="replace"))
            await asyncio.sleep(_LOOK_AGAIN)
