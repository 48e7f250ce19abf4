"""The whole ingress in this process, and echo engines behind it without a broker between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from typing import Any

import orjson
from pydantic import SecretStr

from ingress import app
from ingress.context import Context
from ingress.http.auth import Keys
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.order import Order
from ingress.jobs.state import Terms
from ingress.jobs.ticket import Ticket
from ingress.models.catalog import Catalog
from ingress.models.routes import Routes
from schemas import settings
from schemas.frames import Frame, Kind, Op
from schemas.jobs import Job
from schemas.nodes import Card, ServedModel
from tests.unit import fakes
from workers.engines.base import EngineFault
from workers.engines.echo.engine import EchoEngine

KEY = "sk-test-0123456789abcdef"
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """What came as an event stream; ``[DONE]`` as that word."""
        assert self.headers["content-type"].startswith("text/event-stream"), self.body
        lines = [line[5:].strip() for line in self.body.split(b"\n") if line.startswith(b"data:")]
        return ["[DONE]" if line == b"[DONE]" else orjson.loads(line) for line in lines]

    @property
    def error(self) -> tuple[int, str, str | None]:
        """(status, code, param)."""
        found = self.json["error"]
        assert found["message"]
        assert found["type"]
        return self.status, found["code"], found["param"]


class LoopbackDispatch(Dispatch):
    """Gives jobs to engines by their model; what an engine says comes back as frames."""

    def __init__(self, config: settings.Settings, engines: dict[str, EchoEngine]) -> None:
        super().__init__(fakes.FakeBus("_I.test"), "in-1", config)
        self.jobs: list[Job] = []
        self._engines = engines
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, order: Order) -> Ticket:
        ticket = Ticket(self._job(order), order.body, Terms(1), self, time.monotonic())
        self.tickets[ticket.job.id] = ticket
        self.jobs.append(ticket.job)
        task = asyncio.create_task(_LoopbackSink(ticket).run(self._engines[order.plan.model]))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return ticket

    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None: ...

    def verdict(self, ack: str, word: bytes) -> None: ...


class _LoopbackSink:
    """The Sink of one job, on the ingress's side of the wire."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._seq = 0

    async def run(self, engine: EchoEngine) -> None:
        self._frame(Kind.CLAIM, ("worker", "w", "node", engine.name, fakes.ack(), 0))
        job = self._ticket.job
        try:
            end = await engine.run(job, self._ticket.body[:], self)
        except EngineFault as fault:
            self._frame(Kind.FAIL, (fault.code, fault.message, fault.retryable))
        else:
            self._frame(Kind.END, astuple(end))

    def start(self, status: int, content_type: str) -> None:
        self._frame(Kind.START, (status, content_type))

    def data(self, chunk: bytes) -> None:
        self._frame(Kind.DATA, chunk)

    def touch(self) -> None: ...

    async def settle(self) -> None: ...

    def _frame(self, kind: Kind, body: Any) -> None:
        seq = 0 if kind is Kind.CLAIM else self._seq
        self._seq += kind is not Kind.CLAIM
        self._ticket.frame(Frame(int(kind), 1, 1, seq, body), time.monotonic())


class LoopbackIngress:
    """`call` is a request; `line` has seen the jobs; `serve` puts another card up."""

    def __init__(self, context: Context, line: LoopbackDispatch) -> None:
        self.context = context
        self.line = line
        self._app = app.build(context)

    def serve(self, *models: ServedModel) -> None:
        self.context.catalog.hear(Card("w", "node", "S", 7, "0", models=models))

    async def post(self, path: str, body: Any, **headers: str) -> Reply:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.call("POST", path, raw, {**HEADERS, **headers})

    async def call(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        sent: list[dict[str, Any]] = []
        coming = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return coming.pop() if coming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": raw,
            "state": {},
        }
        async with asyncio.timeout(fakes.PATIENCE):
            await self._app(scope, receive, send)
        head = sent[0]
        found = {name.decode(): value.decode() for name, value in head["headers"]}
        return Reply(head["status"], found, b"".join(part["body"] for part in sent[1:]))


@asynccontextmanager
async def loopback_ingress(
    *urls: str, routes: tuple[settings.Route, ...] = (), clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[LoopbackIngress]:
    """An ingress with an echo engine for each URL (default: one, of the model ``echo``)."""
    key = settings.Key(name="test", account="tests", secret=SecretStr(KEY))
    config = settings.Settings(keys=[key], route=list(routes))
    built = [
        EchoEngine(settings.Engine(name="e", kind="echo", url=url)) for url in urls or ("echo://",)
    ]
    offers = [(engine, await engine.discover()) for engine in built]
    served = {model.id: engine for engine, offer in offers for model in offer.models}
    catalog = Catalog(clock)
    line = LoopbackDispatch(config, served)
    made = LoopbackIngress(
        Context(config, fakes.FakeBus(), catalog, Routes(config, catalog), line, Keys(config.keys)),
        line,
    )
    made.serve(*(model for _, offer in offers for model in offer.models))
    try:
        yield made
    finally:
        await made.context.schema_checker.close()
        await made.context.media.close()
        assert not line.tickets, "a ticket was left open"
