"""The limits of one ingress, as its own process, under a steady load of requests for a permit.

    python -m tests.bench.limits_child <settings as JSON>

It writes one line of JSON once it is connected, and another at its end: the microseconds that each
decision took, the calls of the store, and the seconds of CPU. When each permit was taken and given
back stands in its journal, which outlives it: a number and seconds of the clock that the processes
of a machine share, negative for what was given back.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import orjson
import structlog
import uvloop
from pydantic import SecretStr

from ingress.http.auth import Principal
from ingress.jobs.ticket import Ticket
from ingress.limits.clock import steady
from ingress.limits.limiter import Limiter
from ingress.limits.store import Vault
from schemas import bus as buses
from schemas import subjects
from schemas.errors import RateLimited
from schemas.frames import End
from schemas.keys import KeyPolicy, Limits
from schemas.settings import Nats

EVENT = struct.Struct("<qd")


class Counted(Vault):
    """Counts the questions to the broker."""

    calls = 0

    async def read(self, subject: str) -> tuple[int, bytes]:
        self.calls += 1
        return await super().read(subject)

    async def write(self, subject: str, after: int, data: bytes) -> int:
        self.calls += 1
        return await super().write(subject, after, data)

    async def time(self) -> int:
        self.calls += 1
        return await super().time()


def answered(tokens: int) -> Ticket:
    """A job that an engine worked on."""
    custody = SimpleNamespace(latest=object(), holder=None, listen=lambda call: None)
    received = SimpleNamespace(error=None, head=None, ended=End(tokens, 0), notes={})
    return cast(Ticket, SimpleNamespace(custody=custody, received=received))


class Load:
    """`rate`: requests a second. `hold`: seconds for which each runs."""

    def __init__(
        self, limiter: Limiter, who: Principal, rate: float, hold: float, journal: int
    ) -> None:
        self._limiter = limiter
        self._journal = journal
        self._number = 0
        self._keepers = limiter.keepers(who)
        self._rate = rate
        self._hold = hold
        self.micros: list[float] = []

    async def run(self, begin: float, seconds: float) -> None:
        tasks: set[asyncio.Task[None]] = set()
        number = 0
        while (now := steady()) < begin + seconds:
            due = int((now - begin) * self._rate)
            for _ in range(number, due):
                task = asyncio.create_task(self._one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            number = max(number, due)
            await asyncio.sleep(max(0.001, begin + (number + 1) / self._rate - steady()))
        await asyncio.gather(*tasks)

    async def _one(self) -> None:
        began = time.perf_counter()
        try:
            permit = await self._limiter.admit(self._keepers, "m", 10, 90)
        except RateLimited:
            return
        finally:
            self.micros.append((time.perf_counter() - began) * 1e6)
        self._number += 1
        number = self._number
        os.write(self._journal, EVENT.pack(number, steady()))
        permit.enter([job := answered(100)])
        if self._hold:
            await asyncio.sleep(self._hold)
            os.write(self._journal, EVENT.pack(number, -steady()))
        permit.leave([job])
        permit.leave()


async def measured(given: dict[str, Any]) -> None:
    owner = given["owner"]
    login = Nats(url=given["url"], user=given["user"], password=SecretStr(given["password"]))
    bus = await buses.connect(login, owner, f"{subjects.INBOX_KEYS}.{owner}")
    store = Counted(bus, 1)
    limiter = Limiter(store, owner, given["window"], 10.0)
    who = Principal("bench", KeyPolicy(limits=Limits(**given["limits"])))
    journal = os.open(given["journal"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    load = Load(limiter, who, given["rate"], given["hold"], journal)
    await limiter.clock.read()
    say({"ready": True})
    begin = float(sys.stdin.readline())
    await load.run(begin, given["seconds"])
    await limiter.close()
    await bus.close()
    say({"micros": load.micros, "calls": store.calls, "cpu": time.process_time()})


def say(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def main(arguments: Sequence[str]) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(measured(orjson.loads(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
