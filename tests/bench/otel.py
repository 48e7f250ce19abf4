"""What telling OpenTelemetry costs: CPU of a request, by parts of the fabric, with it and without.

    scripts/bench otel [--blocks 20] [--sample 1.0] [--json FILE]

One fabric before a mock of llama-server (32 tokens) tells in one turn, and does not in the next:
two of them side by side differ by up to a tenth where they are the same, as chance places them in
memory. There are documents, streams as fast as they go, and streams of one token each 5 ms, 16 at a
time, as engines give them. The load does not end between turns, which are short, so that the other
work of the machine meets both sides alike. Whole batches are sent, in some of the turns, so the
turns of a block are taken together.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import report
from tests.bench.bench import MODEL, Bench, Options, mock
from tests.bench.http_client import Exchange
from tests.bench.load import Client, Plan
from tests.bench.procs import cpu_of, exiting_on_sigterm
from tests.bench.system import Engine, started

PARTS = ("broker", "ingress", "worker")
SIDES = ("off", "on")
SHAPES: dict[str, tuple[dict[str, Any], float, float, float]] = {
    "document": ({"stream": False, "concurrency": 4}, 0.0, 0.1, 0.02),
    "stream": ({"stream": True, "concurrency": 4}, 0.0, 0.1, 0.02),
    "paced": ({"stream": True, "concurrency": 16}, 5.0, 1.0, 0.25),
}
"""The load, milliseconds of a token, seconds of a turn, and those before it, in which requests end
that began in the turn before."""
BLOCK = 6.0
"""Seconds of each side in a block."""
REQUESTS = "requests"


class _Sink(BaseHTTPRequestHandler):
    """Takes all that is told, and forgets it."""

    protocol_version = "HTTP/1.1"
    bytes = 0

    def do_POST(self) -> None:
        _Sink.bytes += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """The address of what takes all that is told."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Load:
    """So many clients, each of which asks again as soon as it is answered."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._client = Client(plan, plan.urls[0])
        self.done = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        lanes = [asyncio.create_task(self._lane()) for _ in range(self._plan.concurrency)]
        try:
            yield
            for ended in filter(asyncio.Task.done, lanes):
                ended.result()  # raises what ended it
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _lane(self) -> None:
        while True:
            exchange = Exchange(self._plan.stream, 0)
            await self._client.ask(exchange, None)
            reply = exchange.read()
            if exchange.status != 200 or not reply.complete or reply.text != self._plan.expect:
                raise SystemExit(f"status {exchange.status}: {exchange.raw[-300:]!r}")
            self.done += 1


@dataclass
class Turns:
    """`found`: by shape and side, milliseconds of CPU a request of each part in each block."""

    bench: Bench
    switch: socket.socket
    found: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)

    async def measure(self, shape: str, blocks: int) -> None:
        asked, pace, seconds, before = SHAPES[shape]
        self.bench.engine.set(token_ms=pace)
        load = Load(self.bench.plan(0, **asked))
        found = self.found[shape] = {side: [] for side in SIDES}
        async with load.running():
            for side in SIDES:  # connections, caches, code paths
                await self._turn(load, side, BLOCK / 3, before)
            for _ in range(blocks):
                sums = {side: dict.fromkeys((REQUESTS, *PARTS), 0.0) for side in SIDES}
                for number in range(round(BLOCK / seconds)):
                    for side in SIDES if number % 2 == 0 else reversed(SIDES):
                        for name, value in await self._turn(load, side, seconds, before):
                            sums[side][name] += value
                for side, whole in sums.items():
                    found[side].append({part: whole[part] / whole[REQUESTS] for part in PARTS})

    async def _turn(
        self, load: Load, side: str, seconds: float, before: float
    ) -> list[tuple[str, float]]:
        """How many requests there were, and milliseconds of CPU of each part."""
        self.switch.sendall(side.encode() + b"\n")
        self.switch.recv(1)
        await asyncio.sleep(before)
        done, began = load.done, cpu_of(self.bench.fabric.pids)
        await asyncio.sleep(seconds)
        requests, ended = load.done - done, cpu_of(self.bench.fabric.pids)
        took = [(part, (ended[part] - began[part]) * 1000) for part in PARTS]
        return [(REQUESTS, requests), *took]


@contextlib.contextmanager
def turning(sample: float) -> Iterator[Turns]:
    """The fabric, ready."""
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "600000"  # ms: whole batches are sent, as under load
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-otel-")))
        options = Options(work)
        engine = stack.enter_context(mock(options, slots=16, tokens=options.tokens))
        program = (sys.executable, "-m", "tests.bench.otel_child", f"{work}/{{part}}.sock")
        otel = {"endpoint": stack.enter_context(sink()), "sample": sample}
        engines = [Engine("mock", engine.url)]
        fabric = stack.enter_context(
            started(work / "one", MODEL, engines, program=program, common={"otel": otel})
        )
        switch = stack.enter_context(socket.socket(socket.AF_UNIX))
        switch.connect(f"{work}/ingress.sock")
        yield Turns(Bench(options, engine, fabric), switch)


def shown(found: dict[str, list[dict[str, float]]], parts: tuple[str, ...]) -> tuple[str, ...]:
    """What these parts take together, without and with it, and the ratios."""
    off, on = ([sum(each[part] for part in parts) for each in found[side]] for side in SIDES)
    pairs = sorted(b / a for a, b in zip(off, on, strict=True))
    quarter = len(pairs) // 4
    return (
        f"{median(off):.4f}",
        f"{median(on):.4f}",
        f"{median(on) / median(off):.3f}",
        f"{median(pairs):.3f}",
        f"{pairs[quarter]:.3f} to {pairs[-1 - quarter]:.3f}",
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench otel", description=__doc__)
    parser.add_argument("--blocks", type=int, default=20, help="of each shape (default: 20)")
    parser.add_argument("--sample", type=float, default=1.0, help="share of traces (default: 1)")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw numbers to FILE")
    return parser.parse_args()


def main() -> int:
    """Print the table."""
    given = parsed()
    about = report.about(["scripts/bench", "otel", *sys.argv[1:]])
    with exiting_on_sigterm(), turning(given.sample) as turns:
        for shape in given.shapes:
            uvloop.run(turns.measure(shape, given.blocks))
    console = Console(width=140)
    for name, value in {**about, "load after": os.getloadavg()}.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)
    table = Table(title="CPU a request (ms)")
    for name in (
        "request",
        "of",
        "off",
        "on",
        "of medians",
        "of pairs",
        "half of them",
    ):
        table.add_column(name, justify="right")
    for shape, found in turns.found.items():
        for parts in (*((part,) for part in PARTS), PARTS[1:], PARTS):
            table.add_row(shape, " + ".join(parts), *shown(found, parts))
    console.print(table)
    console.print(f"told: {_Sink.bytes} bytes", highlight=False)
    if given.json:
        given.json.write_bytes(orjson.dumps(turns.found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
