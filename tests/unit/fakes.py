"""Doubles of the unit tier: a bus that records, and small makers of messages, jobs and cards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson
from nats.aio.msg import Msg

from schemas.bus import Bus, BusError, Message, Subscription
from schemas.client import DirectClient, Handler
from schemas.jobs import Job
from schemas.nodes import Card, EngineState, ServedModel

PATIENCE = 60.0
"""Seconds after which a test that waits for an event has failed."""


class Clock:
    """Stands for a clock. `now`: seconds, which pass as a test says."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Posted(NamedTuple):
    subject: str
    payload: bytes
    reply: str
    headers: dict[str, str]


class FakeSubscription(Subscription):
    """Delivers until it is stopped."""

    def __init__(self, bus: FakeBus, subject: str, handler: Handler) -> None:
        self._bus = bus
        self.subject = subject
        self.handler = handler

    async def stop(self) -> None:
        self._bus.subscriptions.remove(self)

    async def drain(self) -> None:
        await self._bus.on_drain()
        self._bus.subscriptions.remove(self)


class FakeBus(Bus):
    """A broker connection that keeps what is posted and delivers what a test says.

    `fault`, if set, is raised by `post`; `answer` serves `request`; `api_answer` serves `api`.
    """

    def __init__(self, inbox: str = "_W.test") -> None:
        self.inbox = inbox
        self.epoch = 0
        self.closed = asyncio.Event()
        self.posts: list[Posted] = []
        self.subscriptions: list[FakeSubscription] = []
        self.up = True
        self.fault: BusError | None = None
        self.settled = self.flushed = 0
        self.answer: Callable[[str, bytes], Awaitable[Message]] = _nobody
        self.api_calls: list[tuple[str, Any]] = []
        self.api_answer: Callable[[str, Any], dict[str, Any]] = lambda verb, body: {}
        self.puts: list[Posted] = []
        self.put_fault: BusError | None = None
        self.served: list[str] = []
        self.about: dict[str, str] = {}
        self._on_reconnect: list[Callable[[], None]] = []
        self._news = asyncio.Event()

    def before_writing(self, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)

    after_reading = before_writing

    @property
    def max_payload(self) -> int:
        return 2**20

    @property
    def connected(self) -> bool:
        return self.up

    @property
    def client_id(self) -> int:
        return 7

    @property
    def server_id(self) -> str:
        return "S"

    def post(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        if self.fault is not None:
            raise self.fault
        self.posts.append(Posted(subject, payload, reply, headers or {}))
        self._news.set()

    async def settle(self, limit: int = 2**20) -> None:
        self.settled += 1

    async def flush(self) -> None:
        self.flushed += 1

    async def on_drain(self) -> None:
        """What happens between the last word to the broker and its answer."""

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        made = FakeSubscription(self, subject, handler)
        self.subscriptions.append(made)
        return made

    async def request(self, subject: str, payload: bytes = b"", timeout: float = 2.0) -> Message:
        return await self.answer(subject, payload)

    async def store(
        self, subject: str, headers: dict[str, str], payload: bytes = b"", timeout: float = 2.0
    ) -> dict[str, Any]:
        if self.put_fault is not None:
            raise self.put_fault
        self.puts.append(Posted(subject, payload, "", headers))
        return {"seq": len(self.puts)}

    async def api(self, verb: str, body: Any = None, timeout: float = 5.0) -> dict[str, Any]:
        self.api_calls.append((verb, body))
        return self.api_answer(verb, body)

    async def serve(
        self, name: str, description: str, metadata: dict[str, str], version: str
    ) -> None:
        self.served.append(name)
        self.about = metadata

    async def close(self) -> None:
        self.up = False

    def try_each(self, pause: float = 0.0) -> None: ...

    async def reconnect(self) -> None:
        await self._reconnected()

    def deliver(self, sent: Message) -> int:
        """Hand `sent` to its subscribers; returns how many there are."""
        found = [s for s in self.subscriptions if _matches(s.subject, sent.subject)]
        for subscription in found:
            subscription.handler(sent)
        return len(found)

    def to(self, subject: str) -> list[bytes]:
        """Payloads that were posted to `subject`."""
        return [post.payload for post in self.posts if post.subject == subject]

    async def until(self, wanted: Callable[[list[Posted]], Any]) -> None:
        """Wait until what was posted is as `wanted`."""
        async with asyncio.timeout(PATIENCE):
            while not wanted(self.posts):
                self._news.clear()
                await self._news.wait()


async def _nobody(subject: str, _: bytes) -> Message:
    raise BusError(f"{subject}: no responders")


def _matches(pattern: str, subject: str) -> bool:
    wanted, had = pattern.split("."), subject.split(".")
    return len(wanted) == len(had) and all(w in ("*", h) for w, h in zip(wanted, had, strict=True))


async def turns(count: int = 5) -> None:
    """Let what is ready in the event loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


_NOBODY = DirectClient()


def message(
    subject: str, data: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
) -> Message:
    return Msg(_client=_NOBODY, subject=subject, data=data, reply=reply, headers=headers)


def ack(delivered: int = 1, sequence: int = 5) -> str:
    """The ack subject of a delivery."""
    return f"$JS.ACK.JOBS.echo-i4.{delivered}.{sequence}.9.1700000000000000000.0"


HOLDER = "box.w1"
FAR = 4_102_444_800_000
"""Milliseconds of the epoch: the year 2100."""


def job(**changed: Any) -> Job:
    fields: dict[str, Any] = {
        "id": "0123456789abcdef0123456789abcdef",
        "ingress": "in-1",
        "lane": "i",
        "model": "echo",
        "asked": "echo",
        "endpoint": "/v1/chat/completions",
        "arrived": 1000,
        "claim_by": 3000,
        "first_by": FAR,
        "total_by": FAR,
        "stream": False,
        "account": "acme",
        "key": "k1",
        "content_type": "application/json",
        "body": orjson.dumps({"messages": [{"role": "user", "content": "a b"}]}),
    }
    return Job(**{**fields, **changed})


def card(holder: str = "w-1", *models: str, slots: int = 4, **changed: Any) -> Card:
    fields: dict[str, Any] = {
        "node": holder.partition(".")[0] if "." in holder else f"node-of-{holder}",
        "server": "S",
        "client": 7,
        "version": "0",
        "engines": (EngineState("e", "echo", "ready", slots, 0),),
        "models": tuple(ServedModel(model, "e", "echo", slots, 8192) for model in models),
        "started": 1700000000,
    }
    return Card(holder=holder, **{**fields, **changed})
