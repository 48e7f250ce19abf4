"""A runner with one engine of one slot, and what it says to the broker and the ingress."""

from __future__ import annotations

import asyncio

from schemas import frames
from schemas.bus import Message
from schemas.frames import End, Frame, Kind, Op, Role
from schemas.jetstream.pulls import Pulls, Room
from schemas.jobs import Job
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.attempt import Attempt
from workers.consumer import Puller
from workers.engines.base import Engine, EngineFault, Offer, Sink
from workers.runner import Runner

CONFIG = Settings()
STALL = CONFIG.worker.stall


class FakeEngine:
    """An engine that does what the test says. `body` is what the last job asked."""

    name, kind = "e", "fake"

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.fault: Exception | None = None
        self.cancelled = self.probes = 0
        self.alive = True
        self.body = b""

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        self.body = body
        self.began.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        sink.start(200, "application/json")
        sink.data(b"{}")
        return End(1, 2, 0, 3)

    async def probe(self) -> bool:
        self.probes += 1
        if self.fault is not None:
            raise self.fault
        return self.alive

    async def discover(self) -> Offer:
        return Offer(1, ())

    async def open(self) -> None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...


class OneSlot:
    """One slot."""

    def __init__(self, engine: Engine) -> None:
        self.engine: Engine = engine
        self.room = Room(1)
        self.take, self.free, self.release = self.room.take, self.room.free, self.room.release
        self.suspected: list[EngineFault] = []
        self.attempts: list[Attempt] = []

    @property
    def busy(self) -> int:
        return self.room.taken

    def suspect(self, fault: EngineFault) -> None:
        self.suspected.append(fault)

    def answered(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)


class RunnerSetup:
    """A runner with one engine of one slot, and what it says to the broker and the ingress."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.engine = FakeEngine()
        self.slot = OneSlot(self.engine)
        self.runner = Runner(bus, Role.WORKER, fakes.HOLDER, "node", CONFIG)
        self.puller = Puller(bus, "echo", "i", room=self.slot.room, on_job=self._take, expires=2.0)

    def _take(self, source: Pulls, message: Message) -> None:
        self.runner.take(self.slot, source, message)

    def deliver(self, job: Job | bytes | None = None, delivered: int = 1) -> None:
        job = fakes.job() if job is None else job
        data = job.pack() if isinstance(job, Job) else job
        if self.slot.busy:  # to another puller of this runner
            self._take(self.puller.pulls, fakes.message("_W.p", data, fakes.ack(delivered)))
        else:
            inbox = self.bus.subscriptions[-1].subject
            self.bus.deliver(fakes.message(inbox, data, fakes.ack(delivered)))

    def claim(self) -> Frame:
        return next(f for f in self.frames() if f.kind == Kind.CLAIM)

    def frames(self) -> list[Frame]:
        subject = f"r.in-1.box.{fakes.job().id}"
        return [frame for sent in self.bus.to(subject) for frame in frames.unpack(sent)]

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames()]

    def told(self, delivered: int = 1) -> list[bytes]:
        """What the broker was told of the delivery."""
        return self.bus.to(fakes.ack(delivered))

    async def claimed(self) -> None:
        await self.bus.until(lambda _: Kind.CLAIM in self.kinds())

    def say(self, op: Op, first: int = 0, nonce: int | None = None) -> None:
        nonce = self.claim().nonce if nonce is None else nonce
        control = frames.pack_control(op, fakes.job().id, nonce, first)
        self.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", control))

    async def idle(self) -> None:
        async with asyncio.timeout(fakes.PATIENCE):
            await self.runner.idle.wait()
        assert self.slot.busy == 0

    async def begin(self) -> None:
        """A job runs, and the engine does not end by itself."""
        self.engine.may_end.clear()
        self.deliver()
        await self.engine.began.wait()
