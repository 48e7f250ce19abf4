"""What telling OpenTelemetry costs: CPU of ingress and worker a request, off, at 10 % and at all.

    scripts/bench otel [--rounds 5] [--requests 1500]

Three fabrics run beside each other, each with an engine of its own (a mock, 32 tokens), and their
turns alternate. The sink reads what comes and forgets it. Ratios are those of a round's pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import report
from tests.bench.bench import MODEL, Bench, Options, mock
from tests.bench.procs import exiting_on_sigterm
from tests.bench.system import Engine, started

PARTS = ("ingress", "worker")
SIDES: dict[str, dict[str, Any] | None] = {"off": None, "10 %": {"sample": 0.1}, "all": {}}
SHAPES = {"document": {"stream": False}, "stream": {"stream": True}}


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bytes = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        _Sink.bytes += len(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """The address of what takes all that is told."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def side(work: Path, told: dict[str, Any] | None, url: str) -> Iterator[Bench]:
    """A fabric that tells `url` what `told` says; nothing without."""
    work.mkdir()
    options = Options(work)
    common = {} if told is None else {"otel": {"endpoint": url, **told}}
    with (
        mock(options, slots=8, tokens=options.tokens) as engine,
        started(work / "one", MODEL, [Engine("mock", engine.url)], common=common) as fabric,
    ):
        yield Bench(options, engine, fabric)


def measured(given: argparse.Namespace) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of CPU a request, by shape and side, one for each round."""
    found: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(sink())
        sides = {
            name: stack.enter_context(side(work / f"side{number}", told, url))
            for number, (name, told) in enumerate(SIDES.items())
        }
        for shape, more in SHAPES.items():
            for bench in sides.values():
                bench.warm(bench.plan(0, concurrency=4, **more))
            for number in range(given.rounds):
                turns = list(sides.items())
                for name, bench in turns if number % 2 == 0 else reversed(turns):
                    done = bench.measure(bench.plan(given.requests, concurrency=4, **more))
                    if done.run.failed:
                        raise SystemExit(f"{name}: {done.run.failed[:3]}")
                    found.setdefault((shape, name), []).append(done.total(PARTS) * 1000)
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench otel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("--requests", type=int, default=1500, help="of a turn (default: 1500)")
    given = parser.parse_args()
    with exiting_on_sigterm():
        found = measured(given)
    console = Console(width=140)
    for name, value in report.about(["scripts/bench", "otel", *sys.argv[1:]]).items():
        console.print(f"{name}: {value}", highlight=False, markup=False)
    table = Table(title="CPU of ingress and worker a request (ms)")
    for name in ("request", "told", "median", "ratio", "each pair"):
        table.add_column(name, justify="right")
    for (shape, name), costs in found.items():
        pairs = [a / b for a, b in zip(costs, found[shape, "off"], strict=True)]
        each = " ".join(f"{pair:.3f}" for pair in pairs)
        table.add_row(shape, name, f"{median(costs):.4f}", f"{median(pairs):.3f}", each)
    console.print(table)
    console.print(f"told: {_Sink.bytes} bytes", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
