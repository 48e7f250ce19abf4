"""Logs of the processes that ``headrace up`` runs: ``<data>/logs/<process>.log``, JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

PROCESSES = ("ingress", "worker", "fallback", "console")
_LOOK_AGAIN = 0.2
_PIECE = 2**20
_EACH = 1.0
"""Seconds between two looks at how large the logs are."""


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


async def bounded(data: Path, most: int) -> None:
    """Keep each log below about `most` bytes, for ever: once it has more, it begins anew, and what
    it had is kept as ``.log.1``. The processes go on writing into the same file, as they append."""
    while True:
        await asyncio.sleep(_EACH)
        for process in PROCESSES:
            with contextlib.suppress(OSError):  # a disk that is full: the next look may do better
                begin_anew(file(data, process), most)


def begin_anew(path: Path, most: int) -> bool:
    """Begin the log at `path` anew if it has more than `most` bytes. Raises OSError."""
    if path.stat().st_size <= most:
        return False
    kept = path.with_name(f"{path.name}.1")
    with path.open("r+b", buffering=0) as source:
        descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(source, copy, _PIECE)
            copy.write(source.read())  # what came meanwhile: only lines of this moment can be lost
            source.truncate(0)
    return True


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
                if source.tell() > os.fstat(source.fileno()).st_size:  # it began anew
                    source.seek(0)
                *lines, rest[process] = (rest[process] + source.read(_PIECE)).split(b"\n")
                for line in lines:
                    say(process, line.decode(errors="replace"))
            await asyncio.sleep(_LOOK_AGAIN)
