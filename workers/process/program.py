"""A program to run: its command, its start, and whether it is ready or over.

It gets a session of its own, so that Ctrl-C in the terminal reaches this process alone, and it
dies with this process (`die_with_parent`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp

from schemas import settings
from workers.process import die_with_parent

AT_ONCE = ""
"""`Command.ready` if nobody waits for the program, or the caller checks it in another way."""

_LOOK_AGAIN = 0.1
"""Seconds between two looks at `Command.ready`."""
LINE_LIMIT = 2**20
"""Most bytes in one line of output."""


class ProcessFailed(Exception):
    """The program ended, cannot be started, or was not ready in time; the message says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and how to see that it is ready.

    `args[0]` is looked up in PATH. `env` is laid over this process's environment without
    Headrace's own variables. `ready`: `AT_ONCE`, or a URL that must answer 200 `within` so many
    seconds. `words`: the file to which stdout and stderr are appended; without one, each of their
    lines becomes a line of the log, with each of `secrets` masked. `is_ours`: it is another of our
    own processes, and writes where this one does.
    """

    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: str = AT_ONCE
    within: float = 600.0
    words: Path | None = None
    is_ours: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)


async def spawn(command: Command) -> asyncio.subprocess.Process:
    """Start the program. Raises ProcessFailed."""
    program = found(command.args[0])
    with contextlib.ExitStack() as stack:
        sink: int | IO[bytes] | None = None if command.is_ours else asyncio.subprocess.PIPE
        try:
            if command.words is not None:
                sink = stack.enter_context(command.words.open("ab"))
            return await asyncio.create_subprocess_exec(
                *die_with_parent.wrap([program, *command.args[1:]]),
                stdin=asyncio.subprocess.PIPE,  # it closes when this process ends
                stdout=sink,
                stderr=sink,
                env={**settings.outside(), **command.env},
                start_new_session=True,
                limit=LINE_LIMIT,
            )
        except OSError as fault:
            why = f"{command.args[0]} cannot be started: {fault.strerror}"
            raise ProcessFailed(why) from None


def found(program: str) -> str:
    """The program's absolute path; a bare name is looked up in PATH. Raises ProcessFailed."""
    path = shutil.which(program)
    if path is None:
        why = "there is no such program" if os.sep in program else "it is not in PATH"
        raise ProcessFailed(f"{program} cannot be started: {why}")
    return os.path.abspath(path)


async def over(process: asyncio.subprocess.Process) -> None:
    """Wait until the program itself has ended: `wait` also waits for all holders of its pipes."""
    if not hasattr(os, "pidfd_open"):
        await process.wait()
        return
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:  # ended, and asyncio has collected its exit code
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, gone.set)  # a pidfd is readable once its process has ended
    try:
        await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def answers(url: str, process: asyncio.subprocess.Process) -> bool:
    """True once `url` answers 200; False if the process ends before."""
    limit = aiohttp.ClientTimeout(total=2.0)
    async with aiohttp.ClientSession(timeout=limit) as session:
        while process.returncode is None:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return True
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(_LOOK_AGAIN)
    return False


def last_words(words: Path) -> list[str]:
    """The last line of a log that is plain text, such as the end of a traceback; or nothing."""
    with contextlib.suppress(OSError), words.open("rb") as file:
        file.seek(max(0, words.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("{")][-1:]
    return []
