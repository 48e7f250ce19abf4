"""A whole Headrace of real processes for tests: start them, kill them, wait for what they log."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from deploy.nats.broker import Broker
from schemas import bus as buses
from schemas.bus import Bus
from schemas.settings import Nats, outside
from tests import forks, held_loop
from tests.clock import VARIABLE, Clock
from tests.forks import Fork
from tests.held_loop import Held

KEY = "sk-test-0123456789abcdef"
PATIENCE = 120.0
Line = dict[str, Any]


class Process:
    """One ``headrace`` process; its log lines are events that tests wait for."""

    def __init__(
        self,
        name: str,
        inner: Fork | asyncio.subprocess.Process,
        clock: Clock | None = None,
        held: Held | None = None,
    ) -> None:
        """`clock`: what its wall clock is by. `held`: how long it holds its loop."""
        self.name = name
        self.inner = inner
        self._clock = clock
        self.held = held
        self.url = ""
        self.lines: list[Line] = []
        self.noise: list[str] = []
        self.readers: set[asyncio.Event] = set()
        """Set at each line, and at the end of all."""
        self._silent = False
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self.inner.pid

    async def _read(self) -> None:
        assert self.inner.stderr is not None
        while raw := await self.inner.stderr.readline():
            try:
                line = json.loads(raw)
            except ValueError:
                self.noise.append(raw.decode(errors="replace"))
                continue
            self.lines.append(line)
            self._wake()
        self._silent = True
        self._wake()

    def _wake(self) -> None:
        for reader in self.readers:
            reader.set()

    async def logged(self, event: str, *, skip: int = 0, **fields: Any) -> Line:
        """Wait for the line with this event and these fields (after `skip` such lines)."""

        def found() -> list[Line]:
            return [
                line
                for line in self.lines
                if line.get("event") == event and fields.items() <= line.items()
            ][skip:]

        await read_until(lambda: found() or self._silent, [self])
        assert found(), f"{self.name} ended without {event}: {self.noise[-5:]} {self.lines[-5:]}"
        return found()[0]

    def count(self, event: str, **fields: Any) -> int:
        return sum(
            line.get("event") == event and fields.items() <= line.items() for line in self.lines
        )

    def step_clock(self, seconds: float) -> None:
        """Have its wall clock be wrong by so much."""
        assert self._clock is not None
        self._clock.step(seconds)

    def signal(self, number: int) -> None:
        self.inner.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.inner.wait()

    async def stop(self) -> int:
        """SIGTERM, and what the process ended with."""
        if self.inner.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """What the process ends with that was told to end: a second signal may come when nobody
        handles it any more."""
        async with asyncio.timeout(PATIENCE):
            return await self.inner.wait()

    async def reap(self) -> None:
        if self.inner.returncode is None:
            await self.kill()
        await self._reader


def session(*traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """Requests that are made at once go out at once: there is no limit to its connections."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=120),
        connector=aiohttp.TCPConnector(limit=0),
        trace_configs=list(traces),
    )


class Fabric:
    """Processes around one broker. Each is reaped when the fabric is left."""

    def __init__(self, broker: Broker, home: Path, common: Mapping[str, Any] | None = None) -> None:
        """`common`: settings of all processes, by path."""
        self.broker = broker
        self.home = home
        self.common = {"nats.url": broker.url, **(common or {})}
        self.processes: list[Process] = []
        self.url = ""
        self.session = session()
        self._numbers = count()
        self.fresh = False
        """Its processes are started from nothing, not forked: their memory is their own."""
        self.watched = False
        """Its processes tell how long they hold their loops."""

    async def ingress(
        self,
        config: dict[str, Any] | None = None,
        routes: Mapping[str, str] | None = None,
        tables: str = "",
    ) -> Process:
        """An ingress on a free port, with settings by path, models by the names that lead to them,
        and further tables as text; the first one's address is `url`."""
        vault = {f"vault.{k}": v for k, v in self.login("keys").items()}
        settings = {"ingress.port": 0, **vault, **(config or {})}
        text = self._toml("ingress", settings)
        text += f'[[keys]]\nname = "test"\naccount = "tests"\nsecret = "{KEY}"\n'
        for name, model in (routes or {}).items():
            text += f"[[route]]\nname = {json.dumps(name)}\nmodel = {json.dumps(model)}\n"
        process = await self._spawn("ingress", text + tables)
        line = await process.logged("ingress.listening")
        process.url = line["url"]
        self.url = self.url or line["url"]
        return process

    async def worker(
        self,
        engine: str = "echo://?model=echo",
        config: dict[str, Any] | None = None,
        *,
        slots: int = 0,
        kind: str = "",
        models: Sequence[str] = (),
    ) -> Process:
        """A worker of one engine, with settings by path; returns once the engine is ready."""
        kind = kind or engine.partition("://")[0].replace("http", "llamacpp")
        text = self._toml("worker", config or {})
        text += (
            f'[[engines]]\nname = "{kind}"\nkind = "{kind}"\nurl = "{engine}"\nslots = {slots}\n'
            f"models = {json.dumps(list(models))}\n"
        )
        process = await self._spawn("worker", text)
        await process.logged("engine.ready")
        return process

    async def crew(self, engines: str, config: dict[str, Any] | None = None) -> Process:
        """A worker of the engines in these TOML tables; none of them may be ready yet."""
        return await self._spawn("worker", self._toml("worker", config or {}) + engines)

    async def fallback(self, text: str, config: dict[str, Any] | None = None) -> Process:
        """A fallback with the tables of `text` (providers, prices, routes); returns once it is
        ready, and known to each ingress."""
        ledger = {f"ledger.{k}": v for k, v in self.login("ledger").items()}
        process = await self._spawn(
            "fallback", self._toml("fallback", {**ledger, **(config or {})}) + text
        )
        await process.logged("fallback.ready")
        return process

    def login(self, role: str) -> dict[str, str]:
        """The settings of a role's login."""
        user, password = self.broker.users[role]
        return {"user": user, "password": password}

    def _toml(self, role: str, settings: dict[str, Any]) -> str:
        logged_in: dict[str, Any] = {**self.login(role)}
        sections: dict[str, dict[str, Any]] = {"nats": logged_in, "log": {"level": "debug"}}
        for name, value in {**self.common, **settings}.items():
            section, _, key = name.partition(".")
            sections.setdefault(section, {})[key] = value
        return "".join(map(table, sections, sections.values()))

    async def _spawn(self, role: str, text: str) -> Process:
        name = f"{role}-{next(self._numbers)}"
        path = self.home / f"{name}.toml"
        path.write_text(text)
        # A directory of its own: that of whoever runs the tests may have a key.
        command = [role, "--config", str(path), "--data", str(self.home / "data")]
        clock, held = Clock(self.home / f"{name}.clock"), Held(self.home / f"{name}.held")
        if self.fresh:
            process = Process(name, await forks.started_anew(command))
        else:
            env = {**outside(), VARIABLE: str(clock.path)}
            env |= {held_loop.VARIABLE: str(held.path)} if self.watched else {}
            process = Process(name, await forks.start(command, env), clock, held)
        self.processes.append(process)
        return process

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}"}

    async def served(self, *models: str, url: str = "") -> None:
        """Wait until the ingress lists exactly these models."""
        async with asyncio.timeout(PATIENCE):
            while await self.models(url) != sorted(models):
                await asyncio.sleep(0.01)

    async def models(self, url: str = "") -> list[str]:
        async with self.session.get((url or self.url) + "/readyz") as answer:
            found: list[str] = (await answer.json())["models"]
            return found

    async def slots(self, model: str, wanted: int) -> None:
        """Wait until the ingress knows of so many slots for a model."""
        async with asyncio.timeout(PATIENCE):
            while True:
                url = f"{self.url}/v1/models/{model}"
                async with self.session.get(url, headers=self.headers) as answer:
                    found = await answer.json()
                if found.get("headrace", {}).get("slots") == wanted:
                    return
                await asyncio.sleep(0.01)

    def tracebacks(self) -> list[str]:
        """What the processes logged of faults that nobody expected."""
        logged = [line for process in self.processes for line in process.lines]
        noise = [line for process in self.processes for line in process.noise]
        return [str(line) for line in logged if "exception" in line] + noise

    async def admin(self) -> Bus:
        """A connection that may do everything where the streams are. Words to members and to
        ingresses do not cross from there."""
        return await self.connection("admin", "_A.test")

    async def connection(self, role: str, inbox: str) -> Bus:
        """A connection with the login of a role."""
        own = [(key.removeprefix("nats."), value) for key, value in self.common.items()]
        found = {**self.login(role), **{k: v for k, v in own if k in Nats.model_fields}}
        return await buses.connect(Nats.model_validate(found), "test", inbox)

    async def jobs(self, wanted: int) -> None:
        """Wait until the stream holds so many jobs, waiting and running."""
        bus = await self.admin()
        try:
            async with asyncio.timeout(PATIENCE):
                while (await bus.api("STREAM.INFO.JOBS"))["state"]["messages"] != wanted:
                    await asyncio.sleep(0.01)
        finally:
            await bus.close()

    async def depth(self) -> int:
        """How many jobs the stream holds now, waiting and running."""
        bus = await self.admin()
        try:
            return int((await bus.api("STREAM.INFO.JOBS"))["state"]["messages"])
        finally:
            await bus.close()

    async def idle(self) -> None:
        """Wait until nothing is left of any job."""
        await self.jobs(0)

    async def dead_letters(self) -> list[dict[str, str]]:
        """The headers of all dead letters."""
        bus = await self.admin()
        try:
            state = (await bus.api("STREAM.INFO.DEAD"))["state"]
            found: list[dict[str, str]] = []
            first = state["first_seq"] if state["messages"] else state["last_seq"] + 1
            for sequence in range(first, state["last_seq"] + 1):
                letter = await bus.api("STREAM.MSG.GET.DEAD", {"seq": sequence})
                raw = base64.b64decode(letter["message"]["hdrs"]).decode()
                rows = (line.partition(": ") for line in raw.splitlines())
                found.append({name: value for name, colon, value in rows if colon})
            return found
        finally:
            await bus.close()

    async def post(
        self, body: Any, url: str = "", note: object = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """(status, JSON, headers) of a chat request. `note`: for who traces the session."""
        async with self.session.post(
            (url or self.url) + "/v1/chat/completions",
            json=body,
            headers={**self.headers, **headers},
            trace_request_ctx=note,
        ) as answer:
            return answer.status, await answer.json(), answer.headers

    async def stream(
        self, body: Any, url: str = "", on_text: Callable[[str], None] | None = None
    ) -> tuple[int, str, bool]:
        """(status, text or body, whether [DONE] came) of a streamed chat."""
        async with self.session.post(
            (url or self.url) + "/v1/chat/completions",
            json={**body, "stream": True},
            headers=self.headers,
        ) as answer:
            if answer.status != 200:
                return answer.status, (await answer.read()).decode(), False
            return 200, *await read_events(answer, on_text)


FabricT = TypeVar("FabricT", bound=Fabric)


def table(name: str, rows: Mapping[str, Any]) -> str:
    """TOML; an array's table has brackets in its name."""
    return f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in rows.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


async def first_to_log(processes: Sequence[Process], event: str, **fields: Any) -> int:
    """Which of the processes is the first to log this line."""
    waits = [asyncio.create_task(process.logged(event, **fields)) for process in processes]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return next(index for index, wait in enumerate(waits) if wait.done())
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


async def counts(processes: Sequence[Process], event: str, wanted: int, **fields: Any) -> list[int]:
    """Of each process, once there are `wanted` such lines in all: what a client has seen may be
    logged a moment later. The caller judges whether there are more."""

    def found() -> list[int]:
        return [process.count(event, **fields) for process in processes]

    await read_until(lambda: sum(found()) >= wanted, processes)
    return found()


async def read_until(enough: Callable[[], object], processes: Sequence[Process]) -> None:
    """Wait until `enough` is true of the lines that these processes log."""
    news = asyncio.Event()
    for process in processes:
        process.readers.add(news)
    try:
        async with asyncio.timeout(PATIENCE):
            while not enough():
                news.clear()
                await news.wait()
    finally:
        for process in processes:
            process.readers.discard(news)


async def read_events(
    answer: aiohttp.ClientResponse, on_text: Callable[[str], None] | None = None
) -> tuple[str, bool]:
    text, done = "", False
    async for raw in answer.content:
        if not raw.startswith(b"data: "):
            continue
        if raw.strip() == b"data: [DONE]":
            done = True
            continue
        event = json.loads(raw[6:])
        if "error" in event:
            return text + "!" + event["error"]["code"], done
        for choice in event["choices"]:
            piece = choice["delta"].get("content")
            if piece:
                text += piece
                if on_text is not None:
                    on_text(piece)
    return text, done


def ask(text: str, /, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}


@asynccontextmanager
async def fabric(
    broker: Broker, home: Path, common: Mapping[str, Any] | None = None
) -> AsyncIterator[Fabric]:
    async with opened(Fabric(broker, home, common)) as made:
        yield made


@asynccontextmanager
async def opened(made: FabricT) -> AsyncIterator[FabricT]:
    """Nothing of it is left after the block."""
    try:
        yield made
    finally:
        await made.session.close()
        for process in made.processes:
            await process.reap()
