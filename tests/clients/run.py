"""Runs one client at one place, and says of each of its steps whether it worked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.clients import MARK, Client, Command, Where
from tests.clients.install import CACHE
from tests.clients.stage import Engine, Stage
from tests.fabric import KEY

_SECONDS = {"calls": 180, "real": 600, "direct": 600}
_TAIL = 600
"""Characters of what failed that are shown."""


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    worked: bool
    said: str


async def run(name: str, client: Client, engine: Engine, stage: Stage) -> list[Step]:
    """All steps of a client. It has a home of its own, and nothing of the caller's environment."""
    folder = CACHE / "work" / f"{name}-{engine}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stage.record.plan = client.plan
    where = Where(stage.url, KEY, stage.model, stage.embedder, folder, engine != "calls")
    found: list[Step] = []
    for command in client.commands(client.packages.folder, where):
        code, out, rest = await _ran(command, where, _SECONDS[engine])
        found += _judged(command, where, code, out, rest, engine == "calls")
    return found


async def _ran(command: Command, where: Where, seconds: float) -> tuple[int, str, str]:
    """(status, stdout, stderr); -1 if its time ran out."""
    home = where.folder / "home"
    home.mkdir(exist_ok=True)
    usual = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *map(str, command.line),
        cwd=where.folder,
        env={**usual, **command.env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            out, rest = await process.communicate()
        return process.returncode or 0, out.decode(), rest.decode()
    except TimeoutError:
        return -1, "", f"it had not ended after {seconds:g} s"
    finally:
        end_all(home)
        await process.wait()


def end_all(home: Path) -> None:
    """Ends all processes with this home, as clients leave some in sessions of their own."""
    while left := [*_at_home(home)]:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                os.kill(pid, signal.SIGKILL)
                select.select([handle], [], [])
                os.close(handle)


def _at_home(home: Path) -> Iterator[int]:
    mark = f"HOME={home}".encode()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _judged(
    command: Command, where: Where, code: int, out: str, rest: str, calls: bool
) -> Iterator[Step]:
    if not command.step:
        steps = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        yield from (_of_line(line, calls) for line in steps)
        if code or not steps:
            yield Step("the program", False, (out + rest)[-_TAIL:])
        return
    text = (where.folder / command.file).read_text() if command.file else out
    marked = MARK in text or not calls or "words" in command.step or command.step == "auth"
    yield Step(command.step, not code and marked, (out + rest)[-_TAIL:].strip())


def _of_line(line: dict[str, Any], calls: bool) -> Step:
    said = str(line.get("fault") or line.get("got"))
    marked = MARK in said or not calls or line["want"] != "mark"
    return Step(line["step"], "fault" not in line and marked, said[:_TAIL])
