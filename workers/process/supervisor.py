"""Runs one program that should never end, and starts it again when it does.

It runs an engine's server, and the parts of ``headrace up``. States: stopped, starting, ready,
failed (the program ended; the next start waits for its back-off), stopping.

The program leads a session of its own, so all its children end with it. On Linux it never outlives
this process, even if this process is killed (`die_with_parent`). Elsewhere the program may watch
its stdin, a pipe that closes when this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Literal

import structlog

from schemas.watched import watched
from workers.process import program
from workers.process.program import Command, ProcessFailed

log = structlog.get_logger("supervisor")

State = Literal["stopped", "starting", "ready", "failed", "stopping"]

_BACKOFF = 0.5
_BACKOFF_MAX = 10.0
"""Seconds from an end to the next start, doubled each time up to the maximum."""
_STEADY = 10.0
"""Seconds of life after which the back-off begins anew."""
_PATIENCE = 5.0
_HUNG_PATIENCE = 2.0
"""Seconds from SIGTERM to SIGKILL for a program that misbehaves: it need not drain."""
_KEPT = 20
"""Lines of output that are kept; the last one explains an exit."""
_LAST_WORDS = 1.0
"""Seconds to wait for the output of a program that has ended."""
_MASK = "********"


class Supervisor:
    """`command`: what to run, or a function that returns it before each start (and may raise
    ProcessFailed). `changed` is called at each change of state."""

    def __init__(
        self,
        name: str,
        command: Command | Callable[[], Command],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.state: State = "stopped"
        self.reason = ""
        self.pid: int | None = None
        """The program's pid, which is also the id of its session and its process group."""
        self.ends = 0
        """How often the program has ended without being stopped."""
        self.chatty = True
        """Whether the program's output is logged at info, else at debug."""
        self._command = command
        self._changed = changed
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._restart_reason: asyncio.Future[str] | None = None
        self._said: deque[str] = deque(maxlen=_KEPT)
        self._secrets: tuple[str, ...] = ()
        self._patience = _HUNG_PATIENCE

    def start(self) -> None:
        """Keep the program running from now on; call this in a thread that stays."""
        if self._task is None:
            self._task = asyncio.create_task(watched("supervisor", self._keep))

    async def ready(self) -> None:
        """Wait while the program starts. Raises ProcessFailed unless it is ready."""
        # "stopped" with a task: it was told to start, and has not had its first turn.
        while self.state == "starting" or (self.state == "stopped" and self._task is not None):
            await self._moved.wait()
        if self.state != "ready":
            raise ProcessFailed(self.reason or f"{self.name} is {self.state}")

    async def moved(self) -> None:
        """Wait for the next change of state."""
        await self._moved.wait()

    async def stop(self, patience: float = _PATIENCE) -> None:
        """SIGTERM, and after `patience` seconds SIGKILL; returns when the program has ended."""
        task, self._task = self._task, None
        if task is None:
            return
        self._patience = patience  # for `_end`, which the cancelled task calls
        self._move("stopping")
        task.cancel()
        await asyncio.wait({task})
        self._patience = _HUNG_PATIENCE
        self._move("stopped")

    def hang_up(self) -> None:
        """Send SIGHUP, at which programs read their settings anew, to one that is ready."""
        if self.state == "ready":
            self._signal(signal.SIGHUP)

    def kill(self) -> None:
        """Send SIGKILL at once to the program and its children."""
        self._signal(signal.SIGKILL)

    def restart(self, why: str) -> None:
        """End a program that runs but misbehaves; it starts again after the back-off."""
        if self._restart_reason is not None and not self._restart_reason.done():
            self._restart_reason.set_result(why)

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
        """Start the program and wait for its end; return why it ended."""
        self._said.clear()
        try:
            command = self._command if isinstance(self._command, Command) else self._command()
            self._secrets = command.secrets
            process = await program.spawn(command)
        except ProcessFailed as fault:
            return str(fault)
        self.pid = process.pid
        log.info("process.started", process=self.name, pid=process.pid)
        readers = [
            asyncio.create_task(self._read_output(s)) for s in (process.stdout, process.stderr)
        ]
        try:
            return await self._watch(command, process, readers)
        finally:
            ending = asyncio.create_task(self._end(process))
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:  # `stop` was called while it ends for a restart
                await ending
                raise
            finally:
                for reader in readers:
                    reader.cancel()
                self.pid = None

    async def _watch(
        self,
        command: Command,
        process: asyncio.subprocess.Process,
        readers: list[asyncio.Task[None]],
    ) -> str:
        """Wait until the program ends or `restart` is called; return why."""
        self._restart_reason = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(command.within):
                up = command.ready == program.AT_ONCE or await program.answers(
                    command.ready, process
                )
        except TimeoutError:
            return f"not ready after {command.within:g} s"
        if up:
            self._move("ready")
        ended = asyncio.ensure_future(program.over(process))
        await asyncio.wait((ended, self._restart_reason), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            ended.cancel()  # `_live` ends the program
            return self._restart_reason.result()
        await self._sweep(process)  # children that hold the pipes would keep the readers waiting
        await asyncio.wait(readers, timeout=_LAST_WORDS)
        return self._why_ended(command, process.returncode or 0)

    async def _read_output(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None:
            try:
                raw = await stream.readline()
            except ValueError:  # longer than `LINE_LIMIT`; the reader drops the line
                continue
            if not raw:
                return
            line = self._masked(raw.decode(errors="replace").strip())
            if line:
                self._said.append(line)
                (log.info if self.chatty else log.debug)(
                    "process.said", process=self.name, line=line
                )

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """End the program and its children, which are in its session."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await program.over(process)
        await self._sweep(process)
        # asyncio may hear of the end later than we do, or never, if the pipes are still held.
        process._transport.close()  # type: ignore[attr-defined]

    async def _sweep(self, process: asyncio.subprocess.Process) -> None:
        self._signal(signal.SIGKILL)
        await program.over(process)
        with contextlib.suppress(TimeoutError):  # a child that left the session may hold the pipes
            async with asyncio.timeout(_LAST_WORDS):
                await process.wait()

    def _signal(self, number: int) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _why_ended(self, command: Command, code: int) -> str:
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        said = list(self._said) if command.words is None else program.last_words(command.words)
        return f"exit code {code}: {said[-1]}" if said else f"exit code {code}"

    def _masked(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        return line

    def _move(self, state: State, reason: str = "") -> None:
        if self.state == "stopping" and state != "stopped":  # the program's end is no failure then
            return
        self.state, self.reason = state, reason
        self._moved.set()  # wakes who waits now; the next change has an event of its own
        self._moved = asyncio.Event()
        self._changed()
