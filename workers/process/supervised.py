"""An engine of any kind whose program the worker runs: started, watched, ended, started again.

Around the engine of that kind, at the address where its program listens. `EngineSlots` asks it as
any other, and so finds out that a real small job succeeds; what it meets while the program is still
loading is `EngineFault.early`. A program that ends, or that does not pass its check for some time
with no job in it that moves on, is started again after a back-off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from schemas import settings
from schemas.frames import End
from schemas.jobs import Job
from schemas.placeholders import fill
from workers.engines.base import Engine, EngineFault, Offer, Sink
from workers.process import ports
from workers.process.program import Command, ProcessFailed
from workers.process.supervisor import Supervisor

T = TypeVar("T")
Maker = Callable[[settings.Engine], Engine]

DOUBT = 5.0
"""Seconds for which an engine that has served, and has no job left, may fail its check."""
_SHORTEST = 6
"""Characters of a secret from which on it is masked in what the program says."""


def as_configured(config: settings.Engine) -> list[str]:
    return config.command


class Supervised:
    """`make` makes the engine of its kind for a URL; `command` says how to start its program, with
    the placeholders of the config (or raises ProcessFailed)."""

    def __init__(
        self,
        config: settings.Engine,
        make: Maker,
        command: Callable[[settings.Engine], list[str]] = as_configured,
    ) -> None:
        self.name = config.name
        self.kind = config.kind
        self.on_end: Callable[[EngineFault], None] = lambda fault: None
        """Called when the program has ended by itself."""
        self._config = config
        self._make = make
        self._command = command
        self._process = Supervisor(config.name, self._plan, self._changed)
        self._port = config.port
        self._inner: Engine | None = None
        self._moved = False
        self._sound = False
        self._since: float | None = None
        self._why = ""
        self._running = 0
        self._told = 0

    async def open(self) -> None: ...

    async def close(self) -> None:
        await self._process.stop()
        if self._inner is not None:
            await self._inner.close()

    async def discover(self) -> Offer:
        """Starts the program if it does not run yet. Raises EngineFault, also while it loads."""
        await self._runs()
        engine = await self._engine()
        self._since = self._since or _now()
        return await self._ask(engine.discover)

    async def check(self) -> Offer | None:
        better = await self._ask((await self._engine()).check)
        self._check_owner()
        self._sound, self._since = True, None
        self._process.chatty = False  # from now on it may speak of what clients send
        return better

    async def probe(self) -> bool:
        return self._process.state == "ready" and await (await self._engine()).probe()

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        self._running += 1
        try:
            return await (await self._engine()).run(job, body, sink)
        finally:
            self._running -= 1

    # The program.

    def _plan(self) -> Command:
        """What to run next. Raises ProcessFailed."""
        config = self._config
        self._port = config.port or ports.free()
        if ports.taken(self._port):
            raise ProcessFailed(f"port {self._port} is taken by another program")
        values = {"port": str(self._port), "file": os.path.expanduser(config.file)}
        program, *rest = (fill(text, values) for text in self._command(config))
        env = {key: value.get_secret_value() for key, value in config.env.items()}
        self._moved, self._sound, self._since = True, False, _now()
        self._why, self._process.chatty = "", True
        return Command(
            (os.path.expanduser(program), *rest),
            {key: fill(value, values) for key, value in env.items()},
            secrets=_maskable(*env.values(), config.api_key.get_secret_value()),
        )

    def _changed(self) -> None:
        if self._process.state == "failed":
            self.on_end(EngineFault(self._process.reason, away=True))

    async def _runs(self) -> None:
        """Waits while the program is started. Raises EngineFault if it has ended: once at once, and
        asked again only after the back-off."""
        self._process.start()
        while self._process.state == "failed" and self._process.ends == self._told:
            await self._process.moved()
        try:
            await self._process.ready()
        except ProcessFailed as fault:
            self._told = self._process.ends
            raise EngineFault(str(fault), away=True) from None

    async def _engine(self) -> Engine:
        """The engine at the address of the program that runs now."""
        if self._inner is None or self._moved:
            old, self._moved = self._inner, False
            url = f"http://{ports.LOOPBACK}:{self._port}"
            self._inner = self._make(self._config.model_copy(update={"url": url, "command": []}))
            await self._inner.open()
            if old is not None:
                await old.close()
        return self._inner

    # Its trial.

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The engine's own answer. Raises EngineFault with what is to be thought of it."""
        try:
            self._check_owner()
            if not self._sound and not self._left():
                raise EngineFault(self._why)
            async with asyncio.timeout(None if self._sound else self._left()):
                return await question()
        except TimeoutError:
            raise self._judged("it does not answer") from None
        except EngineFault as fault:
            raise self._judged(fault.message) from None

    def _check_owner(self) -> None:
        """Raises EngineFault if somebody else answers in the program's place."""
        pid = self._process.pid
        if pid is None:
            raise EngineFault(self._process.reason or "its program has ended", away=True)
        if ports.strange(self._port, pid):
            why = f"port {self._port} is answered by another program, not by the one started here"
            raise EngineFault(why, away=True)

    def _left(self) -> float:
        """Seconds for which it may still be starting."""
        since = self._since or _now()
        return max(0.0, since + self._config.ready_within - _now())

    def _judged(self, why: str) -> EngineFault:
        """Wait for it, or start it again: where it neither starts, nor answers, nor works."""
        if self._process.state != "ready":
            return EngineFault(self._process.reason or why, away=True)
        since = self._since or _now()
        if self._sound:
            over = not self._running and _now() - since >= DOUBT
            verdict = f"it failed its check for {_now() - since:.0f} s: {why}"
        else:
            over = self._left() <= 0
            verdict = f"not ready after {self._config.ready_within:g} s: {why}"
        if not over:
            self._why = why
            return EngineFault(why, away=True, early=not self._sound)
        self._process.restart(verdict)
        return EngineFault(verdict, away=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _maskable(*secrets: str) -> tuple[str, ...]:
    return tuple(secret for secret in secrets if len(secret) >= _SHORTEST)
