"""An engine of any kind whose program the worker starts, watches, ends and starts again.

It wraps the engine of that kind at the address where the program listens. `EngineSlots` treats it
as any other engine, so its check is a real small job. A fault while the program still loads is
`EngineFault.early`. A program starts again after a back-off if it ends, or if it fails its check
for some time while it has no job.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from secrets import token_urlsafe
from typing import TypeVar

from pydantic import SecretStr

from schemas import settings
from schemas.frames import End
from schemas.jobs import Job
from schemas.placeholders import fill
from workers.engines.base import Engine, EngineFault, Offer, SaysKind, Sink
from workers.process import ports
from workers.process.program import Command, ProcessFailed
from workers.process.supervisor import Supervisor

T = TypeVar("T")
Maker = Callable[[settings.Engine], Engine]

DOUBT = 5.0
"""Seconds for which an engine that once passed its check, and has no job, may fail it."""
_SILENT = "it does not answer"
_KEY_BYTES = 32
_SHORTEST = 6
"""Fewest characters of a secret that is masked in the output: a shorter one would hide words."""


def as_configured(config: settings.Engine) -> list[str]:
    return config.command


class Supervised:
    """`make` builds the engine for a config with a URL. `command` returns the program's command
    line with the placeholders of the config, or raises ProcessFailed. `key_variable`: in which
    variable of its environment the program gets the key that it is to ask for: that of the config,
    or a new one at each start, so that nobody else on this machine can use it."""

    def __init__(
        self,
        config: settings.Engine,
        make: Maker,
        command: Callable[[settings.Engine], list[str]] = as_configured,
        key_variable: str = "",
    ) -> None:
        self.name = config.name
        self.kind = config.kind
        self.on_end: Callable[[EngineFault], None] = lambda fault: None
        """Called when the program ends without being stopped."""
        self._config = config
        self._make = make
        self._command = command
        self._key_variable = key_variable
        self._key = config.api_key
        self._process = Supervisor(config.name, self._plan, self._changed)
        self._port = config.port
        self._inner: Engine | None = None
        self._moved = False  # started since `_inner` was made, perhaps at another port
        self._sound = False  # passed its check since it was started
        self._since: float | None = None  # since when it starts, or fails its check
        self._why = ""  # the last fault while it started
        self._running = 0  # its jobs
        self._told = 0  # the number of its last end that was raised as a fault

    async def open(self) -> None: ...

    async def close(self) -> None:
        await self._process.stop()
        if self._inner is not None:
            await self._inner.close()

    async def discover(self) -> Offer:
        """Start the program unless it runs. Raises EngineFault, also while the program loads."""
        await self._runs()
        engine = await self._engine()
        self._since = self._since or _now()
        return await self._ask(engine.discover)

    async def check(self) -> Offer | None:
        better = await self._ask((await self._engine()).check)
        self._check_owner()  # again: ours may have ended, and another program answered
        self._sound, self._since = True, None
        self._process.chatty = False  # from now on its output may quote what clients send
        return better

    async def probe(self) -> bool:
        return self._process.state == "ready" and await (await self._engine()).probe()

    async def said_kind(self) -> str:
        inner = self._inner
        return await inner.said_kind() if isinstance(inner, SaysKind) else ""

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        self._running += 1
        try:
            return await (await self._engine()).run(job, body, sink)
        finally:
            self._running -= 1

    # The program.

    def _plan(self) -> Command:
        """The command for the next start. Raises ProcessFailed."""
        config = self._config
        self._port = config.port or ports.free()
        if ports.taken(self._port):
            raise ProcessFailed(f"port {self._port} is taken by another program")
        values = {"port": str(self._port), "file": os.path.expanduser(config.file)}
        program, *rest = (fill(text, values) for text in self._command(config))
        env = {key: value.get_secret_value() for key, value in config.env.items()}
        if self._key_variable:
            own = config.api_key.get_secret_value() or token_urlsafe(_KEY_BYTES)
            self._key = SecretStr(own)
            env[self._key_variable] = own
        secrets = (*env.values(), self._key.get_secret_value())
        self._moved, self._sound, self._since = True, False, _now()
        self._why, self._process.chatty = "", True
        return Command(
            (os.path.expanduser(program), *rest),
            {key: fill(value, values) for key, value in env.items()},
            secrets=tuple(secret for secret in secrets if len(secret) >= _SHORTEST),
        )

    def _changed(self) -> None:
        if self._process.state == "failed":
            self.on_end(EngineFault(self._process.reason, away=True))

    async def _runs(self) -> None:
        """Wait until the program runs. Raises EngineFault if it has ended.

        The first call after an end raises at once; the next ones wait for the next start.
        """
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
            found = {"url": url, "command": [], "api_key": self._key}
            self._inner = self._make(self._config.model_copy(update=found))
            await self._inner.open()
            if old is not None:
                await old.close()
        return self._inner

    # Whether it is sound.

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The engine's own answer. Raises EngineFault, with a verdict on the program."""
        try:
            self._check_owner()
            if not self._sound and not self._left():
                raise EngineFault(self._why or _SILENT)
            async with asyncio.timeout(None if self._sound else self._left()):
                return await question()
        except TimeoutError:
            raise self._judged(_SILENT) from None
        except EngineFault as fault:
            raise self._judged(fault.message) from None

    def _check_owner(self) -> None:
        """Raises EngineFault if another program answers at this program's port."""
        pid = self._process.pid
        if pid is None:
            raise EngineFault(self._process.reason or "its program has ended", away=True)
        if ports.taken_by_another(self._port, pid):
            why = f"port {self._port} is answered by another program, not by the one started here"
            raise EngineFault(why, away=True)

    def _left(self) -> float:
        """Seconds that the program may still take to start."""
        since = self._since or _now()
        return max(0.0, since + self._config.ready_within - _now())

    def _judged(self, why: str) -> EngineFault:
        """The fault to raise; restarts the program if its time to start or to recover is over."""
        if self._process.state != "ready":
            return EngineFault(self._process.reason or why, away=True)
        since = self._since or _now()
        if self._sound:
            # A program with a job is left to the runner, which looks after the job's progress.
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
