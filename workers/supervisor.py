"""Runs one program that should never end, and starts it again when it does.

For an engine's server, and for the parts of ``headrace up``. States: stopped, starting, ready,
failed (it ended; the next start waits for its back-off), stopping.

The program gets a pipe as stdin that ends when this process does, and a session of its own, so
that Ctrl-C in the terminal reaches this process alone, which stops things in order. Not to outlive
a *killed* supervisor is up to the program: it ends with its stdin (the embedded engine does), or
its command begins with a wrapper that asks the kernel for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import aiohttp
import orjson
import structlog

log = structlog.get_logger("supervisor")

State = Literal["stopped", "starting", "ready", "failed", "stopping"]

LINE = "line"
"""`Command.ready`: the program prints a line ``{"url": …}`` on stdout, and little after it, as
nobody reads on."""
AT_ONCE = ""
"""`Command.ready`: nobody needs to wait for the program."""

OWN_PREFIX = "HEADRACE_"
"""Our own variables may hold secrets that an engine has no use for."""

_BACKOFF = 0.5
_BACKOFF_MAX = 10.0
_STEADY = 10.0
"""Seconds of life after which a crash counts as the first one again."""
_LOOK_AGAIN = 0.1
_PATIENCE = 5.0
_LIMIT = 2**20
"""Bytes of one line of the program's words."""
_KEPT = 20


class ProcessFailed(Exception):
    """The program ended, or was not ready in time; the message says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and how to see that it is ready.

    `args[0]` is looked up in PATH. `env` is laid over this process's environment, of which our own
    variables are left out. `ready`: `LINE`, `AT_ONCE`, or a URL that answers 200. `within`: seconds
    until it must be ready. `words`: the file that stdout and stderr are added to; without one,
    each line of stderr becomes a line of our log.
    """

    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: str = LINE
    within: float = 600.0
    words: Path | None = None


class Supervisor:
    """`address`: what the program said, or the URL that was asked, once it is ready."""

    def __init__(
        self, name: str, command: Command, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.state: State = "stopped"
        self.reason = ""
        self.address = ""
        self.pid: int | None = None
        self.ends = 0
        """How often the program has ended by itself."""
        self._command = command
        self._changed = changed
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=_KEPT)
        self._patience = _PATIENCE

    def start(self) -> None:
        """Begin to keep the program running. It must be forked by a thread that stays."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    async def ready(self) -> str:
        """Wait while the program starts; its address. Raises ProcessFailed unless it is ready."""
        while self.state == "starting" or (self.state == "stopped" and self._task is not None):
            await self._moved.wait()
        if self.state != "ready":
            raise ProcessFailed(self.reason or f"{self.name} is {self.state}")
        return self.address

    async def moved(self) -> None:
        """Wait for the next change of state."""
        await self._moved.wait()

    async def stop(self, patience: float = _PATIENCE) -> None:
        """SIGTERM, and after `patience` seconds SIGKILL; returns when the program has ended."""
        task, self._task = self._task, None
        if task is None:
            return
        self._patience = patience
        self._move("stopping")
        task.cancel()
        await asyncio.wait({task})
        self._move("stopped")

    def kill(self) -> None:
        """SIGKILL at once."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        delay, clock = _BACKOFF, asyncio.get_running_loop().time
        while True:
            self._move("starting")
            began = clock()
            why = await self._live()
            self.ends += 1
            if clock() - began > _STEADY:
                delay = _BACKOFF
            log.warning("process.ended", process=self.name, reason=why, again_in=delay)
            self._move("failed", why)
            await asyncio.sleep(delay)
            delay = min(_BACKOFF_MAX, delay * 2)

    async def _live(self) -> str:
        """From start to end; returns why it ended."""
        self._said.clear()
        try:
            process = await self._spawn()
        except OSError as fault:
            return f"{self._command.args[0]} cannot be started: {fault.strerror}"
        self.pid = process.pid
        listening = asyncio.create_task(self._listen(process.stderr))
        try:
            try:
                async with asyncio.timeout(self._command.within):
                    self.address = await self._becomes_ready(process)
            except TimeoutError:
                return f"not ready after {self._command.within:g} s"
            if self.address or self._command.ready == AT_ONCE:
                self._move("ready")
            code = await process.wait()
            await listening
            return self._epitaph(code)
        finally:
            await self._end(process)
            listening.cancel()
            self.pid, self.address = None, ""

    async def _spawn(self) -> asyncio.subprocess.Process:
        command = self._command
        own = {k: v for k, v in os.environ.items() if not k.startswith(OWN_PREFIX)}
        with contextlib.ExitStack() as stack:
            sink: int | IO[bytes] = asyncio.subprocess.PIPE
            if command.words is not None:
                sink = stack.enter_context(command.words.open("ab"))
            return await asyncio.create_subprocess_exec(
                *command.args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if command.ready == LINE else sink,
                stderr=sink,
                env={**own, **command.env},
                start_new_session=True,
                limit=_LIMIT,
            )

    async def _becomes_ready(self, process: asyncio.subprocess.Process) -> str:
        """Its address; "" if it has none, or ended first."""
        url = self._command.ready
        if url == AT_ONCE:
            return ""
        address = await (_told(process.stdout) if url == LINE else _answers(url, process))
        if not address:
            await process.wait()
        return address

    async def _listen(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None:
            try:
                raw = await stream.readline()
            except ValueError:  # longer than `_LIMIT`; what was read is thrown away
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").strip()
            if line:
                self._said.append(line)
                log.warning("process.said", process=self.name, line=line)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._patience):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _epitaph(self, code: int) -> str:
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        words = self._command.words
        said = _tail(words) if words is not None else list(self._said)
        return f"exit code {code}: {said[-1]}" if said else f"exit code {code}"

    def _move(self, state: State, reason: str = "") -> None:
        if self.state == "stopping" and state != "stopped":
            return
        self.state, self.reason = state, reason
        self._moved.set()
        self._moved = asyncio.Event()
        self._changed()


async def _told(stdout: asyncio.StreamReader | None) -> str:
    """The URL in the first line that has one; "" at the end of the stream."""
    while stdout is not None and (line := await stdout.readline()):
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            return str(orjson.loads(line)["url"])
    return ""


async def _answers(url: str, process: asyncio.subprocess.Process) -> str:
    """`url` once it answers 200; "" if the process ends before."""
    limit = aiohttp.ClientTimeout(total=2.0)
    async with aiohttp.ClientSession(timeout=limit) as session:
        while process.returncode is None:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return url
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(_LOOK_AGAIN)
    return ""


def _tail(words: Path) -> list[str]:
    """The last lines of a log that are plain words, such as the last of a traceback."""
    with contextlib.suppress(OSError), words.open("rb") as file:
        file.seek(max(0, words.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("{")][-1:]
    return []
