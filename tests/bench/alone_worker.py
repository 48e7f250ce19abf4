"""Python alone: CPU of a worker for a job, from its bytes to its ack.

``python -m tests.bench.alone_worker [--stream] [--batches N] [--profile]`` prints microseconds a
job. Runner, pulls and the engine of llama.cpp are real, down to the client of the broker and to the
parser of HTTP; sockets, broker, ingress and llama-server are not there: what they would say is put
together before. As in `alone`, `TOGETHER` jobs at a time, and the least of many batches counts.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import os
import pstats
import sys
import time
from typing import Any, cast

import orjson
import uvloop

from schemas import frames, log, subjects
from schemas.frames import Op, Role
from schemas.jetstream.pulls import Pulls, Room
from schemas.jobs import Job
from schemas.nodes import ServedModel
from schemas.settings import Engine, Log, Settings
from tests.bench.alone import READS, TOGETHER, TOKENS, AloneBus, Wire
from tests.unit import fakes
from workers.attempt import Attempt
from workers.consumer import Puller
from workers.engines.base import EngineFault
from workers.engines.http.connection import Connection
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.runner import Runner

MODEL = "echo"
_JOBS = [f"{number:032x}" for number in range(TOGETHER)]


class Written(Wire):
    async def drain(self) -> None: ...

    def acks(self) -> int:
        """How many jobs were acked since the last call."""
        said, self.said = b"".join(self.said), []
        return said.count(b"+NXT")


class Socket(asyncio.Transport):
    """A connection to the engine, which has kept it from an earlier request."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = Connection()
        self.connection.connection_made(self)
        self.asked = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.asked = True

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Slots:
    """The slots of the engine, without what watches over it."""

    def __init__(self, engine: LlamaCppEngine, room: Room) -> None:
        self.engine = engine
        self.take, self.free, self.release = room.take, room.free, room.release

    def suspect(self, fault: EngineFault) -> None:
        raise fault

    def answered(self, attempt: Attempt) -> None: ...


class AloneWorker:
    """A worker, and the other ends of what it speaks with."""

    def __init__(self, stream: bool) -> None:
        self._wire = Written()
        self._bus = AloneBus(self._wire)
        self._engine = LlamaCppEngine(Engine(name="llama", kind="llamacpp", url="http://e:1"))
        self._engine._models = {MODEL: ServedModel(MODEL, "llama", "llamacpp", TOGETHER)}
        self._engine._own, self._engine._obeyed = {MODEL: "own"}, True
        self._runner = Runner(self._bus, Role.WORKER, fakes.HOLDER, "box", Settings())
        room = Room(TOGETHER)
        self._slots = Slots(self._engine, room)
        about = {"room": room, "on_job": self._take, "expires": 2.0}
        self._puller = Puller(self._bus, MODEL, subjects.INTERACTIVE, **cast(Any, about))
        self._sockets = [Socket() for _ in range(TOGETHER)]
        self._engine._http._idle += [each.connection for each in self._sockets]
        self._jobs = [_job(id, stream).pack() for id in _JOBS]
        self._reads = _answer(stream)

    async def open(self) -> None:
        await self._runner.open()
        await self._puller.open()
        self._inbox = self._puller.pulls.inbox
        self._control = subjects.control(fakes.HOLDER)

    def _take(self, source: Pulls, message: Any) -> None:
        self._runner.take(self._slots, source, message)

    async def batch(self) -> None:
        """Do `TOGETHER` jobs."""
        for data in self._jobs:
            self._tell(f"{self._inbox}.*", data, fakes.ack().encode())
        while not all(each.asked for each in self._sockets):
            await asyncio.sleep(0)
        for nonce, (attempt, _) in list(self._runner.running.items()):
            self._tell(self._control, frames.pack_control(Op.GO, attempt.job.id, nonce))
        for read in self._reads:
            for each in self._sockets:
                each.connection.data_received(read)
            await asyncio.sleep(0)
        await self._runner.idle.wait()
        for each in self._sockets:
            each.asked = False
        await asyncio.sleep(0)  # what is written is handed over at the end of a turn
        if (acks := self._wire.acks()) != TOGETHER:
            raise RuntimeError(f"{acks} jobs were acked")

    def _tell(self, pattern: str, data: bytes, reply: bytes = b"") -> None:
        handler = self._bus.subscribed[pattern]
        self._bus.client.handle(handler, 1, pattern.encode(), reply, data, b"")

    def forget(self) -> None:
        """As `tick` does in seconds."""
        self._runner._ended.clear()
        self._runner._answered.clear()


def _job(id: str, stream: bool) -> Job:
    said = {"role": "user", "content": "Tell me how a water mill works, in a few words."}
    asked: dict[str, Any] = {"messages": [said], "model": MODEL, "max_tokens": TOKENS}
    asked |= {"stream": True} if stream else {}
    return fakes.job(id=id, body=orjson.dumps(asked), stream=stream, content_type=_JSON)


_JSON = "application/json"
_TOP = {"created": 1, "id": "chatcmpl-1", "model": "own", "system_fingerprint": "b1"}
_TIMED = {"timings": {"prompt_n": 20, "cache_n": 0, "predicted_n": TOKENS}}


def _answer(stream: bool) -> list[bytes]:
    """What llama-server sends, which is always a stream, in so many reads."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{"content": f" word{number}"} for number in range(TOKENS)]
    events = [_event({"delta": delta}) for delta in deltas]
    events.append(_event({"delta": {}, "finish_reason": "stop"}, _TIMED) + b"data: [DONE]\n\n")
    part = -(-len(events) // READS)
    pieces = [b"".join(events[at : at + part]) for at in range(0, len(events), part)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    reads = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    reads[0], reads[-1] = head + b"\r\n" + reads[0], reads[-1] + b"0\r\n\r\n"
    return reads if stream else [b"".join(reads)]


def _event(choice: dict[str, Any], more: dict[str, Any] | None = None) -> bytes:
    choices = [{"finish_reason": None, "index": 0, **choice}]
    kind = {"object": "chat.completion.chunk"}
    return b"data: %b\n\n" % orjson.dumps({"choices": choices, **_TOP, **kind, **(more or {})})


async def measured(stream: bool, batches: int, profile: cProfile.Profile | None) -> list[float]:
    """Microseconds of CPU a job, of each batch."""
    alone, found = AloneWorker(stream), list[float]()
    await alone.open()
    for number in range(batches + batches // 10):
        if profile is not None and number == batches // 10:
            profile.enable()
        began = time.thread_time()
        await alone.batch()
        took = time.thread_time() - began
        alone.forget()
        gc.collect(0)
        if number >= batches // 10:  # the first ones fill caches
            found.append(took * 1e6 / TOGETHER)
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="alone_worker", description="CPU of a job, Python alone.")
    parser.add_argument("--stream", action="store_true", help=f"streams, in {READS} reads")
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--profile", action="store_true", help="also where the time goes")
    options = parser.parse_args()
    out, profile = sys.stdout, cProfile.Profile() if options.profile else None
    with open(os.devnull, "w") as nowhere:  # where the log goes
        sys.stderr = nowhere
        log.configure(Log(), "worker")
        gc.disable()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measured(options.stream, options.batches, profile))
    if profile is not None:
        profile.disable()
        pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(30)
    least, median = found[0], found[len(found) // 2]
    print(f"{least:.1f} us at least, {median:.1f} in the middle", file=out)


if __name__ == "__main__":
    main()
