"""``headrace up``: broker, ingress and worker on this machine, until Ctrl-C.

The broker is the embedded one, on loopback. Ingress and worker are processes of their own, started
and watched by a `Supervisor`; the kernel kills them if this process is killed. The worker in turn
starts the built-in model when no engine is named. Their logs are in ``<data>/logs``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time

import aiohttp

from deploy import logs, own_broker
from deploy.configure import CommandFailed, Where
from deploy.console import links
from deploy.nats.broker import Broker
from deploy.nats.watch import kept_running
from deploy.plan import Plan
from deploy.screen import Screen
from schemas import bus as buses
from schemas import nodes, subjects
from schemas.bus import Bus, Message
from schemas.frames import Role
from schemas.jobs import CodecError
from schemas.nodes import Card, EngineState
from schemas.settings import ENV_PREFIX
from workers.process.program import AT_ONCE, Command
from workers.process.supervisor import Supervisor

STOP_PATIENCE = 4.0
"""Seconds from Ctrl-C until a process that has not ended is killed."""
DRAIN = 3.0
"""Seconds that running answers have to end after Ctrl-C; less than `STOP_PATIENCE`."""
_TRIES = 3
"""How often one process may end before all have started, until `up` gives up."""
_LOOK_AGAIN = 0.2


def has_terminal() -> bool:
    """Whether one of the standard streams is a terminal that is open."""
    return any(map(os.isatty, range(3)))


class StartFailed(CommandFailed):
    """`up` cannot start; the message says what to do."""


class Local:
    """Everything that `up` runs. `run` returns the exit code once all of it has ended."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        self._began = int(time.time()) - 1  # cards tell whole seconds
        self._started = False
        self._parts: list[Supervisor] = []
        self._console: Supervisor | None = None
        """One of the parts, without which the others go on."""
        self._engines: dict[tuple[str, str], str] = {}
        self._card: Card | None = None

    async def run(self) -> int:
        """Raises CommandFailed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up, has_terminal())
        async with contextlib.AsyncExitStack() as stack:
            running = own_broker.running(self._plan.settings, self._plan.data)
            with self._screen.waiting("starting the broker"):
                broker = await stack.enter_async_context(running)
            await self._serve(broker)
        return 0

    def _hung_up(self, had_terminal: bool) -> None:
        """All processes read their settings anew. A terminal that is closed says the same, and
        means the end."""
        if had_terminal and not has_terminal():
            self._told_to_stop()
            return
        for part in self._parts:
            part.hang_up()
        self._screen.note("the settings are read again; the logs say what of them needs a restart")

    def _told_to_stop(self) -> None:
        """Stop; at a second signal, end at once."""
        if self._stop.is_set():
            for part in self._parts:
                part.kill()
            os._exit(130)  # as shells have it for Ctrl-C
        self._stop.set()
        self._news.set()

    async def _serve(self, broker: Broker) -> None:
        plan = self._plan
        own_broker.tell(broker, plan.settings, self._screen)
        logs.prepare(plan.data)
        self._parts = self._make_parts()
        # Undone from the end: first the processes stop, and last of all the watch over the broker.
        async with contextlib.AsyncExitStack() as stack:
            watching = asyncio.create_task(kept_running(broker, self._stop, self._screen))
            stack.push_async_callback(asyncio.wait, {watching})
            letting_in = own_broker.hub(broker, plan.settings, plan.data, self._screen)
            stack.push_async_callback(_ended, letting_in)
            bus = await self._connect()
            stack.push_async_callback(bus.close)
            bounding = asyncio.create_task(logs.bounded(plan.data, plan.settings.log.most))
            stack.callback(bounding.cancel)
            if plan.verbose:
                following = asyncio.create_task(logs.follow(plan.data, self._screen.log))
                stack.callback(following.cancel)
            stack.push_async_callback(self._halt)
            for part in self._parts:
                part.start()
            await self._settle()
            self._started = True
            if not self._stop.is_set():
                self._screen.welcome(plan, self._card, broker.addresses, self._link())
            await self._stop.wait()

    def _link(self) -> str:
        """Where a browser sees it all, signed in; "" without a console."""
        if self._console is None or self._console.state != "ready":
            return ""
        with contextlib.suppress(OSError):  # a disk that is full: 'headrace console link', later
            return self._plan.console_url + links.path(links.make(self._plan.data))
        return ""

    async def _connect(self) -> Bus:
        login = Where(self._plan.data).local("admin")
        bus = await buses.connect(login, "headrace-up", f"{subjects.INBOX_ADMIN}.up")
        await bus.subscribe(subjects.ALL_CARDS, self._hear)
        return bus

    def _make_parts(self) -> list[Supervisor]:
        plan, settings = self._plan, self._plan.settings
        own = {k: v for k, v in os.environ.items() if k.startswith(ENV_PREFIX)}
        # Variables with providers' keys are for the fallback alone.
        secrets = [each.key_env for each in settings.providers if each.key_env]
        environment = {
            **dict.fromkeys(secrets, ""),
            **own,
            "HEADRACE_LOG__FORMAT": "json",  # `Screen.log` reads it
            "HEADRACE_WORKER__DRAIN": str(min(DRAIN, settings.worker.drain)),
            "HEADRACE_INGRESS__DRAIN": str(min(DRAIN, settings.ingress.drain)),
        }
        shown = {"CONSOLE__PUBLIC_URL": settings.console.public_url or plan.console_url}
        parts = [
            self._part("ingress", _with(environment, shown), f"{plan.url}/healthz"),
            self._part("worker", environment),
        ]
        if plan.console_port:
            asked = {"CONSOLE__INGRESS_URL": settings.console.ingress_url or plan.url}
            self._console = self._part(
                "console", _with(environment, asked), f"{plan.console_here}/healthz"
            )
            parts.append(self._console)
        if plan.has_fallback:
            keys = {name: os.environ[name] for name in secrets if name in os.environ}
            parts.append(self._part("fallback", {**environment, **keys}))
        return parts

    def _part(self, role: str, environment: dict[str, str], ready: str = AT_ONCE) -> Supervisor:
        # -P: else Python would import a folder `deploy` in the user's working directory.
        program = (sys.executable, "-P", "-m", "deploy", role)
        words = logs.file(self._plan.data, role)
        command = Command((*program, *self._plan.flags(role)), environment, ready, words=words)
        part = Supervisor(role, command, lambda: self._changed(part))
        return part

    def _changed(self, part: Supervisor) -> None:
        self._news.set()
        if part.state == "failed":
            self._screen.warn(f"the {part.name} ended ({part.reason}); it is started again")
        elif part.state == "ready" and part.ends:
            self._screen.note(f"the {part.name} runs again")

    def _hear(self, message: Message) -> None:
        """Take a card. Cards of processes that started before this one do not count."""
        try:
            card = nodes.heard(message.subject, message.data, partly=True)
        except CodecError:
            return
        if card.started < self._began or card.draining:
            return
        if card.role == Role.WORKER:
            self._card = card
        self._news.set()
        for engine in card.engines:
            self._tell(card, engine)

    def _tell(self, card: Card, engine: EngineState) -> None:
        before = self._engines.get((card.holder, engine.name))
        self._engines[card.holder, engine.name] = engine.state
        if engine.state == before or self._stop.is_set():
            return
        paid = card.role == Role.FALLBACK
        name = f"the provider {engine.name}" if paid else f"the engine {engine.name} on {card.node}"
        if engine.state == "failed":
            self._screen.warn(f"{name} is not ready: {engine.reason}")
        elif engine.state == "ready" and self._started:
            self._screen.note(f"{name} is ready")

    async def _settle(self) -> None:
        """Wait until everything is ready, or we are told to stop. Raises StartFailed."""
        with self._screen.waiting("starting") as say:
            while not self._stop.is_set():
                self._news.clear()
                missing = self._missing()
                if not missing:
                    break
                say(f"starting: {missing}")
                await self._news.wait()
            if not self._stop.is_set():
                await self._listed()

    def _missing(self) -> str:
        """What is not ready yet, in words. An engine that others run may come later."""
        for part in self._parts:
            if part.ends >= _TRIES and part is not self._console:
                log = logs.file(self._plan.data, part.name)
                raise StartFailed(f"the {part.name} does not start ({part.reason}); see {log}")
        waiting = [
            part.name
            for part in self._parts
            if part.state != "ready" and (part is not self._console or part.ends < _TRIES)
        ]
        if self._card is None:
            waiting.append("engine")
        for engine in self._card.engines if self._card else ():
            if engine.kind == "embedded" and engine.state == "failed":
                raise StartFailed(f"the built-in model cannot be served: {engine.reason}")
            if engine.state not in ("ready", "failed"):
                what = "model" if engine.kind == "embedded" else "engine"
                waiting.append(f"{what} {engine.name}")
        return ", ".join(waiting)

    async def _listed(self) -> None:
        """Wait until the ingress has heard of the models, too."""
        wanted = {model.id for model in self._card.models} if self._card else set()
        # One that others can reach too names its models to those with a key alone.
        headers = {"authorization": f"Bearer {self._plan.key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while wanted and not self._stop.is_set():
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self._plan.url}/readyz") as answer:
                        if wanted <= set((await answer.json())["models"]):
                            return
                await asyncio.sleep(_LOOK_AGAIN / 4)

    async def _halt(self) -> None:
        self._stop.set()
        with self._screen.waiting("stopping"):
            await asyncio.gather(*(part.stop(STOP_PATIENCE) for part in self._parts))
        if self._started:
            self._screen.note("stopped")


def _with(environment: dict[str, str], settings: dict[str, str]) -> dict[str, str]:
    """With settings, by their names in the environment; empty ones are none."""
    return {**environment, **{f"{ENV_PREFIX}{k}": text for k, text in settings.items() if text}}


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
