"""Fake workers, or fake ingresses, of one simulation: many in one process.

    python -m tests.bench.scale_child <settings as JSON>

It says ``ready`` once all are connected, does what each line on stdin says, and answers each with a
line of JSON: what was counted since the line before. At the end of stdin it ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import struct
import sys
import time
from typing import Any

import orjson
import structlog
import uvloop

from schemas import subjects, topology
from schemas.jetstream import streams
from schemas.jetstream.pulls import Pulls, Room
from schemas.jetstream.words import Status
from schemas.nodes import Card, EngineState, ServedModel
from tests.bench.raw import Raw, Said
from workers.engines.llamacpp import capabilities
from workers.member import WHOLE_EACH

MODEL = "mock"
SENT = struct.Struct("<d")
JOB, CLAIM = 1000, 150
"""Bytes of a job, and of a claim, which names its holder here."""
FEATURES = ("chat", "completions", "embeddings", "chat:resume", "completions:resume", "n")
BEAT, TICK, EXPIRES = 1.0, 0.5, 2.0
WHOLE = int(WHOLE_EACH / BEAT)
"""Each card of this number is a whole one."""


class Counts:
    """What was counted since the last question."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.done = self.asked = self.statuses = self.refused = 0

    def taken(self) -> dict[str, Any]:
        found = vars(self).copy()
        self.__init__()  # type: ignore[misc]
        return found


COUNTS = Counts()


def card(node: str, holder: str, slots: int, busy: int) -> Card:
    """As a worker with one llama-server says it."""
    words = [each for each in FEATURES if ":" not in each]
    served = ServedModel(
        MODEL, "llamacpp", "llamacpp", slots, 8192, ("text",), FEATURES,
        capabilities.ignored({}, {}, words), capabilities.known(words),
    )  # fmt: skip
    engine = EngineState("llamacpp", "llamacpp", "ready", slots, busy)
    about: dict[str, Any] = {"engines": (engine,), "models": (served,), "jobs": busy}
    return Card(holder, node, "N" * 56, 7, "1.0.0", started=1_700_000_000, **about)


class Lane:
    """A queue that a worker pulls from; all refusals but those of time are counted."""

    def __init__(self, worker: FakeWorker, lane: str, most: int = sys.maxsize) -> None:
        self.pulls = Pulls(
            worker.raw.as_bus(),
            subjects.JOBS_STREAM,
            subjects.consumer(MODEL, lane),
            expires=EXPIRES,
            priority=0,
            on_status=self._refused,
            on_message=worker.take,
            room=worker.room,
            most=most,
        )

    def _refused(self, status: Status) -> None:
        COUNTS.statuses += 1
        if status.expired:
            self.pulls.fill()
            return
        COUNTS.refused += 1
        self.pulls.postponed += status.left
        asyncio.get_running_loop().call_later(0.25, self._again, status.left)

    def _again(self, messages: int) -> None:
        self.pulls.postponed -= messages
        self.pulls.fill()


class FakeWorker:
    """One with the real `Pulls`, whose jobs take `service` seconds of nothing."""

    def __init__(self, number: int, slots: int, service: float) -> None:
        self.node = f"n{number}"
        self.holder = subjects.holder(self.node, "0000abcd")
        self.raw = Raw(f"{subjects.INBOX_WORKER}.{self.holder}")
        self.room = Room(slots)
        self._service = service
        self._lanes = [
            Lane(self, subjects.INTERACTIVE),
            Lane(self, subjects.BATCH, 1),
            Lane(self, subjects.pinned(self.node), 1),
        ]

    async def open(self, host: str, port: int, user: str, password: str) -> None:
        await self.raw.open(host, port, user, password, f"headrace-worker/{self.node} mock")
        await self.raw.subscribe(subjects.control(self.holder), lambda said: None)

    async def pull(self) -> None:
        for lane in self._lanes:
            await lane.pulls.open()
            lane.pulls.fill()

    def take(self, message: Any) -> None:
        COUNTS.waits.append(time.monotonic() - SENT.unpack_from(message.data)[0])
        self.room.take()
        ingress = message.data[SENT.size : SENT.size + 16].decode().strip()
        to = subjects.frames(ingress, self.holder, "job")
        self.raw.post(to, self.holder.ljust(CLAIM).encode())
        asyncio.get_running_loop().call_later(self._service, self._done, to, message.reply)

    def _done(self, to: str, ack: str) -> None:
        COUNTS.done += 1
        self.raw.post(to, b"f" * 400)  # start, data and end
        self.room.untake()
        self._lanes[0].pulls.finish(ack)

    async def beat(self) -> None:
        await asyncio.sleep(random.random() * BEAT)
        packed, busy, beats = b"", -1, 0
        while True:
            whole = beats % WHOLE == 0
            if busy != self.room.taken or whole or beats % WHOLE == 1:
                busy = self.room.taken
                packed = card(self.node, self.holder, self.room.size, busy).pack(whole=whole)
            beats += 1
            self.raw.post(subjects.card(self.holder), packed)
            for _ in range(int(BEAT / TICK)):
                await asyncio.sleep(TICK)
                for lane in self._lanes:
                    lane.pulls.lost(asyncio.get_running_loop().time())
                    lane.pulls.fill()


class Workers:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._all: list[FakeWorker] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        s = self._settings
        for number in range(s["first"], s["first"] + s["count"]):
            worker = FakeWorker(number, s["slots"], s["service"])
            await worker.open(s["host"], s["port"], s["user"], s["password"])
            self._all.append(worker)

    async def obey(self, words: dict[str, Any]) -> dict[str, Any]:
        if words["do"] == "pull":
            for worker in self._all:
                await worker.pull()
                self._tasks.append(asyncio.create_task(worker.beat()))
                # As workers of many machines: else all of their requests would expire together.
                await asyncio.sleep(EXPIRES / len(self._all))
        open_pulls = sum(len(lane.pulls) for worker in self._all for lane in worker._lanes)
        faults = [fault for worker in self._all for fault in worker.raw.faults]
        return {**COUNTS.taken(), "open": open_pulls, "faults": faults[:3], "n": len(faults)}


class Ingresses:
    """They hear all cards, and publish jobs."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._all: list[Raw] = []
        self._posted: dict[str, float] = {}
        self.published = 0

    async def open(self) -> None:
        s = self._settings
        for number in range(s["count"]):
            raw = Raw(f"{subjects.INBOX_INGRESS}.in-{number}")
            await raw.open(s["host"], s["port"], s["user"], s["password"], "headrace-ingress")
            await raw.subscribe(subjects.ALL_CARDS, None)
            await raw.subscribe(subjects.DISCONNECTS, None)
            await raw.subscribe(subjects.all_frames(f"in-{number}"), self._framed(raw))
            await raw.subscribe(f"{raw.inbox}.a", None)
            self._all.append(raw)

    def _framed(self, raw: Raw) -> Any:
        def hear(said: Said) -> None:
            if len(said.data) == CLAIM:
                raw.post(subjects.control(said.data.decode().strip()), b"g" * 60)

        return hear

    async def obey(self, words: dict[str, Any]) -> dict[str, Any]:
        if words["do"] == "load":
            await self._load(words["rate"], words["seconds"])
        found = {
            "heard": sum(raw.heard for raw in self._all),
            "bytes": sum(raw.bytes for raw in self._all),
            "published": self.published,
            "faults": [fault for raw in self._all for fault in raw.faults][:3],
        }
        for raw in self._all:
            raw.heard = raw.bytes = 0
        self.published = 0
        return found

    async def _load(self, rate: float, seconds: float) -> None:
        loop, draw = asyncio.get_running_loop(), random.Random(1)
        due, end, number = loop.time(), loop.time() + seconds, 0
        rest = b"x" * (JOB - SENT.size - 16)
        while due < end:
            due += draw.expovariate(rate)
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            number += 1
            ingress = number % len(self._all)
            name = f"in-{ingress}".ljust(16).encode()
            to = subjects.jobs(MODEL, subjects.INTERACTIVE, f"account-{number % 50}")
            headers = {"Nats-TTL": "600s", "Nats-Msg-Id": f"{time.monotonic_ns():x}"}
            raw = self._all[ingress]
            raw.post(to, SENT.pack(time.monotonic()) + name + rest, f"{raw.inbox}.a", headers)
            self.published += 1


async def consumers(settings: dict[str, Any]) -> None:
    """The streams and consumers, as ingresses make them; with the login of the admin."""
    from pydantic import SecretStr

    from schemas import bus as buses
    from schemas.settings import Jobs, Nats

    url = f"nats://{settings['host']}:{settings['port']}"
    login = Nats(url=url, user=settings["user"], password=SecretStr(settings["password"]))
    bus = await buses.connect(login, "bench", f"{subjects.INBOX_ADMIN}.bench")
    await streams.ensure(bus, topology.streams(Jobs(), 1)[:1])
    lanes = [subjects.INTERACTIVE, subjects.BATCH]
    lanes += [subjects.pinned(f"n{number}") for number in range(settings["workers"])]
    for lane in lanes:
        config = topology.consumer(MODEL, lane, Jobs().ack_wait, 1)
        await streams.ensure_consumer(bus, subjects.JOBS_STREAM, config)
    await bus.close()


async def main(settings: dict[str, Any]) -> None:
    if settings["role"] == "setup":
        await consumers(settings)
        print("ready", flush=True)
        return
    made = Workers(settings) if settings["role"] == "workers" else Ingresses(settings)
    await made.open()
    gc.freeze()
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        print(orjson.dumps(await made.obey(orjson.loads(line))).decode(), flush=True)


if __name__ == "__main__":
    # stdout is for answers.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(orjson.loads(sys.argv[1])))
