"""A hostile worker: whoever has a worker's login can be one. It serves a model, and does by `ACTS`
what no worker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import orjson
from pydantic import SecretStr

from deploy.nats.broker import Broker
from schemas import bus as buses
from schemas import frames, jobs, subjects, topology
from schemas.bus import Bus, Message
from schemas.frames import Kind
from schemas.jetstream import streams
from schemas.jetstream.pulls import Pulls
from schemas.nodes import Card, EngineState, ServedModel
from schemas.settings import Nats

MODEL = "bad"
NODE = "hostile"
HOLDER = f"{NODE}.worker"
LONG = "h" * 5000
HUGE = 2**63 - 1
"""The largest number that msgpack and the broker's JSON take without a sign."""

Act = Callable[["HostileWorker"], None]


class HostileWorker:
    """One connection. `job`: the last job that it was given, and `ack` its ack subject."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.job: jobs.Job
        self.ack = ""
        self.given = asyncio.Event()
        self._seq = 0
        name = subjects.consumer(MODEL, subjects.INTERACTIVE)
        self.pulls = Pulls(
            bus, "JOBS", name, expires=30, priority=0, on_status=print, on_message=self._take
        )

    async def open(self) -> None:
        await self.pulls.open()
        self.pulls.ask()

    def _take(self, message: Message) -> None:
        self.job, self.ack, self._seq = jobs.unpack(message.data), message.reply, 0
        self.given.set()

    def card(self, **changed: Any) -> None:
        """A card as an honest worker sends it, but for what is changed."""
        models = (ServedModel(MODEL, "e", "echo", 4),)
        engines = (EngineState("e", "echo", "ready", 4, 0),)
        made = Card(HOLDER, NODE, "S", 7, "0", engines=engines, models=models)
        self.bus.post(subjects.card(HOLDER), orjson.dumps({**orjson.loads(made.pack()), **changed}))

    def model(self, **changed: Any) -> None:
        """A card whose one model is like an honest one's, but for what is changed."""
        plain = {"id": MODEL, "engine": "e", "kind": "echo", "slots": 4, "fields": 0}
        self.card(serves=[{**plain, **changed}])

    def say(self, kind: int, body: Any, attempt: Any = 1, nonce: Any = 5, seq: Any = None) -> None:
        """A frame of the job, whatever its body is."""
        number = self._seq if seq is None else seq
        self._seq += kind != Kind.CLAIM
        packed = msgpack.packb((frames.VERSION, int(kind), attempt, nonce, number, body))
        self.bus.post(subjects.frames(self.job.ingress, HOLDER, self.job.id), packed)

    def claim(self, holder: str = HOLDER, node: str = NODE, **more: Any) -> None:
        said = {"role": "worker", "holder": holder, "node": node, "engine": "e", "ack": self.ack}
        self.say(Kind.CLAIM, [*{**said, **more}.values(), 0, False])

    def answer(self, *end: Any) -> None:
        """A whole answer, with these numbers at its end."""
        self.claim()
        self.say(Kind.START, [200, "application/json"])
        self.say(Kind.DATA, b'{"choices":[{"index":0,"message":{"content":"x"}}]}')
        self.say(Kind.END, [*end, 0, 0, 0])


def _many_notes(worker: HostileWorker) -> None:
    worker.claim()
    for at in range(2000):
        worker.say(Kind.NOTE, [[f"x-headrace-{at}", "v" * 1000]])


def _many_frames(worker: HostileWorker) -> None:
    worker.claim()
    for at in range(100, 5000):
        worker.say(77, {"x" * 4000: 1}, seq=at)


def _long_type(worker: HostileWorker) -> None:
    worker.claim()
    worker.say(Kind.START, [200, "t" * 2**20])


def _negative(worker: HostileWorker) -> None:
    worker.claim()
    worker.say(Kind.DATA, b"x", -1, -1, -1)


def _endless_error(worker: HostileWorker) -> None:
    worker.claim()
    worker.say(Kind.FAIL, ["engine_failed", "e" * 1_900_000, False])


CARDS: Mapping[str, Act] = {
    "slots beyond all numbers": lambda w: w.model(slots=HUGE),
    "a context beyond all numbers": lambda w: w.model(context=HUGE),
    "slots that are no number": lambda w: w.model(slots=True),
    "a model with a name of 3,900 letters": lambda w: w.model(id="m" * 3900),
    "a model whose name takes twelve letters each": lambda w: w.model(id="\U0001f600" * 500),
    "a node of a megabyte": lambda w: w.card(node="n" * 2**20),
    "a reason of a megabyte": lambda w: w.card(
        engines=[{"name": "e", "kind": "e", "state": "x", "slots": 1, "busy": 0, "reason": LONG}]
    ),
    "thousands of models": lambda w: w.card(
        serves=[
            {"id": f"m{at}", "engine": "e", "kind": "e", "slots": 1, "fields": 0}
            for at in range(12_000)
        ]
    ),
    "a holder of 5,000 letters": lambda w: w.card(holder=LONG),
    "a holder that is a pattern": lambda w: w.card(holder="*.>"),
    "fields that are no list": lambda w: w.card(fields={"0": 1}),
}
"""What stands on its card."""

FRAMES: Mapping[str, Act] = {
    "claims with a holder of 5,000 letters": lambda w: w.claim(LONG),
    "claims with a holder with spaces and ends of lines": lambda w: w.claim("a b\r\nPUB c.x 0\r\n"),
    "claims with a node of a megabyte": lambda w: w.claim(node="n" * 2**20),
    "claims with an ack subject of 5,000 letters": lambda w: w.claim(ack=f"$JS.ACK.JOBS.{LONG}"),
    "says a type of a megabyte": _long_type,
    "counts 2^64-1 tokens": lambda w: w.answer(2**64 - 1, 2**64 - 1, 2**64 - 1, 2**64 - 1),
    "counts 2^63 tokens": lambda w: w.answer(HUGE, HUGE, HUGE, HUGE),
    "counts true tokens": lambda w: w.answer(True, True, True, True),
    "fails with an error of two megabytes": _endless_error,
    "says thousands of notes": _many_notes,
    "says thousands of frames of a kind to come": _many_frames,
    "says numbers below zero": _negative,
}
"""What it does with a job."""


async def _connected(broker: Broker, role: str, inbox: str) -> Bus:
    user, password = broker.users[role]
    login = Nats(url=broker.url, user=user, password=SecretStr(password))
    return await buses.connect(login, "hostile", inbox)


@asynccontextmanager
async def hostile_worker(broker: Broker) -> AsyncIterator[HostileWorker]:
    admin = await _connected(broker, "admin", f"{subjects.INBOX_ADMIN}.hostile")
    config = topology.consumer(MODEL, subjects.INTERACTIVE, 3.0, 1)
    await streams.ensure_consumer(admin, subjects.JOBS_STREAM, config)
    await admin.close()
    bus = await _connected(broker, "worker", f"{subjects.INBOX_WORKER}.{HOLDER}")
    worker = HostileWorker(bus)
    try:
        await worker.open()
        yield worker
    finally:
        await worker.pulls.close()
        await bus.close()
