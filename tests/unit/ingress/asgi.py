"""An ingress without sockets: the ASGI application over a bus that records, and its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from ingress.app import Entry, build
from ingress.context import Context
from ingress.http.auth import Keys
from ingress.http.protocol import CLIENT_GONE
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.ticket import Ticket
from ingress.models.catalog import Catalog
from ingress.models.routes import Routes
from schemas.settings import Ingress, Jobs, Key, Route, Settings
from tests.unit import fakes
from tests.unit.fakes import PATIENCE, FakeBus
from tests.unit.ingress.jobs.recorder import Holder

SECRET = "sk-unit-0123456789abcdef"
KEY = Key.model_validate({"name": "k1", "account": "acme", "secret": SECRET})
CHAT = "/v1/chat/completions"


class Call:
    """One request in flight. `body`: its bytes, or the pieces in which they come."""

    def __init__(
        self,
        app: Any,
        method: str,
        path: str,
        body: bytes | Sequence[bytes],
        headers: dict[str, str],
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.read = 0
        self._parts = [body] if isinstance(body, bytes) else list(body)
        self._news = asyncio.Event()
        path, _, query = path.partition("?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        }
        self.task: asyncio.Task[None] = asyncio.create_task(
            app(self.scope, self._receive, self._send)
        )

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found

    async def whole(self) -> Call:
        async with asyncio.timeout(PATIENCE):
            await self.task
        return self

    async def until(self, wanted: Callable[[Call], Any]) -> None:
        """Wait until what was sent is as `wanted`."""
        async with asyncio.timeout(PATIENCE):
            while not wanted(self):
                self._news.clear()
                await self._news.wait()

    def leave(self) -> None:
        """What the HTTP protocol does when the connection ends."""
        if (gone := self.scope["state"].get(CLIENT_GONE)) is not None:
            gone()

    async def _receive(self) -> dict[str, Any]:
        if self.read == len(self._parts):
            await asyncio.Event().wait()
        self.read += 1
        more = self.read < len(self._parts)
        return {"type": "http.request", "body": self._parts[self.read - 1], "more_body": more}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "a second head"
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        elif piece := message.get("body", b""):
            self.pieces.append(bytes(piece))
        self._news.set()


class FakeBusIngress:
    """`keepalive` in seconds. Model `echo` is served by one worker; route `chat` leads to it."""

    def __init__(
        self,
        keepalive: float = 60.0,
        jobs: Jobs | None = None,
        more: Sequence[Entry] = (),
        **ingress: Any,
    ) -> None:
        self.config = Settings(
            keys=[KEY],
            route=[Route(name="chat", model="echo")],
            ingress=Ingress(keepalive=keepalive, **ingress),
            jobs=jobs or Jobs(),
        )
        self.now = 1000.0
        self.bus = FakeBus("_I.in-1")
        self.catalog = Catalog(lambda: self.now)
        self.catalog.hear(fakes.card("w-1", "echo"))
        self.dispatch = Dispatch(self.bus, "in-1", self.config)
        self.context = Context(
            self.config,
            self.bus,
            self.catalog,
            Routes(self.config, self.catalog),
            self.dispatch,
            Keys(self.config.keys),
        )
        self.app = build(self.context, more)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        headers: dict[str, str] | None = None,
    ) -> Call:
        key = {"authorization": f"Bearer {SECRET}"}
        return Call(self.app, method, path, body, key if headers is None else headers)

    def ask(self, headers: dict[str, str] | None = None, **fields: Any) -> Call:
        """A chat request."""
        asked = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], **fields}
        key = {"authorization": f"Bearer {SECRET}", **(headers or {})}
        return self.call("POST", CHAT, orjson.dumps(asked), key)

    async def submitted(self) -> Ticket:
        """The ticket of the one job in flight, once it was published."""
        await self.bus.until(lambda posts: [p for p in posts if p.subject.startswith("jobs.")])
        (ticket,) = self.dispatch.tickets.values()
        return ticket

    async def all_submitted(self, jobs: int) -> list[Ticket]:
        """The tickets of all jobs of one request, once they were published."""
        await self.bus.until(
            lambda posts: sum(p.subject.startswith("jobs.") for p in posts) >= jobs
        )
        tickets = list(self.dispatch.tickets.values())
        assert len(tickets) == jobs
        return tickets

    async def held(self, holder: Holder) -> Ticket:
        (ticket,) = await self.all_held(holder, 1)
        return ticket

    async def all_held(self, holder: Holder, jobs: int) -> list[Ticket]:
        """The tickets of all jobs of one request."""
        tickets = await self.all_submitted(jobs)
        for ticket in tickets:
            ticket.frame(holder.claim(), ticket.times.queued)
        return tickets
