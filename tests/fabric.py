"""A whole Headrace of real processes for tests: start them, kill them, ask them."""

from __future__ import annotations

import asyncio
import base64
import json
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
from tests import clock, forks, gate, held_loop
from tests.clock import Clock
from tests.gate import Gate
from tests.held_loop import Held
from tests.process import PATIENCE, Line, Process, counts, first_to_log, read_until

__all__ = [
    "KEY", "PATIENCE", "Fabric", "Line", "Process", "ask", "counts", "fabric", "first_to_log",
    "opened", "read_events", "read_until", "session", "table",
]  # fmt: skip

KEY = "sk-test-0123456789abcdef"


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
        wall, held = Clock(self.home / f"{name}.clock"), Held(self.home / f"{name}.held")
        shut = Gate(self.home / f"{name}.gate")
        if self.fresh:
            process = Process(name, await forks.started_anew(command))
        else:
            env = {**outside(), clock.VARIABLE: str(wall.path), gate.VARIABLE: str(shut.path)}
            env |= {held_loop.VARIABLE: str(held.path)} if self.watched else {}
            process = Process(name, await forks.start(command, env), wall, held, shut)
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
        self,
        body: Any,
        url: str = "",
        on_text: Callable[[str], None] | None = None,
        **headers: str,
    ) -> tuple[int, str, bool]:
        """(status, text or body, whether [DONE] came) of a streamed chat."""
        async with self.session.post(
            (url or self.url) + "/v1/chat/completions",
            json={**body, "stream": True},
            headers={**self.headers, **headers},
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
