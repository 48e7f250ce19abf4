"""One fabric for `tests.bench.tokens`, measured on demand.

It says ``ready`` once the fabric serves. Then each line of stdin is one measurement, as JSON with
the fields of `Window`, and each answer is one line of JSON. Run with another checkout first on the
module path, it measures that one: of the benchmark it uses only what older checkouts have, too,
and their clock, which was one of 10 ms.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import uvloop

from tests.bench.bench import MODEL, Options, mock
from tests.bench.http_client import Exchange
from tests.bench.load import Client, Plan
from tests.bench.procs import cpu_of, exiting_on_sigterm
from tests.bench.system import Engine, System, started

RAMP = 1.5
"""Seconds before the window, in which streams begin at random times."""
LEAVING = 0.4
"""Seconds that the fabric has to see that the clients of a window have left."""


@dataclass(frozen=True)
class Window:
    """`streams` at a time, each begun anew when it ends, watched for `seconds`."""

    streams: int
    seconds: float
    tokens: int
    seed: int


@dataclass
class Seen:
    """What clients saw. `asked`: when each stream was asked for, and its times."""

    asked: list[tuple[float, Exchange]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def told(self, begin: float, end: float) -> dict[str, Any]:
        """Tokens within the window, the gaps between them (ms), and the times to first tokens."""
        tokens, gaps, firsts = 0, list[float](), list[float]()
        for asked, exchange in self.asked:
            times = exchange.times
            tokens += sum(begin <= at < end for at in times)
            pairs = [pair for pair in pairwise(times) if begin <= pair[0] and pair[1] < end]
            gaps += [(late - early) * 1000 for early, late in pairs]
            if begin <= asked < end and times:
                firsts.append((times[0] - asked) * 1000)
        return {"tokens": tokens, "gaps": gaps, "firsts": firsts, "faults": self.faults}


async def measured(fabric: System, window: Window) -> dict[str, Any]:
    """CPU seconds of each process during the window, and what clients saw."""
    seen, dice = Seen(), random.Random(window.seed)
    plan = Plan(
        [fabric.url], 0, stream=True, tokens=window.tokens, model=MODEL, key=fabric.key, timed=True
    )
    client = Client(plan, fabric.url)
    delays = [dice.uniform(0, RAMP) for _ in range(window.streams)]
    lanes = [asyncio.create_task(_lane(client, delay, seen)) for delay in delays]
    await asyncio.sleep(RAMP + 0.2)
    begin, before = time.monotonic(), cpu_of(fabric.pids)
    await asyncio.sleep(window.seconds)
    end, after = time.monotonic(), cpu_of(fabric.pids)
    for lane in lanes:
        lane.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    await asyncio.sleep(LEAVING)
    return {"cpu": {name: after[name] - before[name] for name in after}, **seen.told(begin, end)}


async def _lane(client: Client, delay: float, seen: Seen) -> None:
    await asyncio.sleep(delay)
    while True:
        exchange = Exchange(stream=True, timed=True)
        seen.asked.append((time.monotonic(), exchange))
        try:
            await client.ask(exchange, None)
        except OSError as fault:
            seen.faults.append(str(fault))
        if not exchange.read().complete:
            seen.faults.append(f"status {exchange.status}: {exchange.raw[-200:]!r}")


def say(line: bytes) -> None:
    """Write a line, all of it. Where PYTHONUNBUFFERED is set, `print` writes once, and a signal
    that comes while the pipe is full leaves it at the first 64 KiB."""
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(line + b"\n")


def main() -> None:
    """`argv`: the longest answer, the most streams at a time, milliseconds a token."""
    gc.disable()
    tokens, slots, pace = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with (
        exiting_on_sigterm(),
        tempfile.TemporaryDirectory(prefix="headrace-tokens-") as work,
        mock(Options(Path(work)), slots=slots, tokens=tokens, token_ms=pace) as engine,
        started(Path(work) / "one", MODEL, [Engine("mock", engine.url)]) as fabric,
    ):
        say(b"ready")
        for line in sys.stdin:
            found = uvloop.run(measured(fabric, Window(**orjson.loads(line))))
            gc.collect()
            say(orjson.dumps(found))


if __name__ == "__main__":
    main()
