"""How far one broker goes: fake workers and ingresses against a real nats-server, with our streams,
consumers, logins and rights: ``scripts/bench scale [--workers 10 100 300 1000]``.

Each worker is a connection with the real `Pulls` of three lanes and a card a second; each ingress
is a connection that hears all cards, publishes jobs and answers claims. Their own work, the parsing
of cards and jobs, is left out, so that one machine can be a thousand.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from rich.console import Console

from deploy.nats import broker
from deploy.nats.broker import Broker
from deploy.status import table
from tests.bench import procs
from tests.bench.scale_child import MODEL, card
from tests.bench.stats import percentile
from workers.process import die_with_parent

PATIENCE = 180.0


class Child:
    """One process of `tests.bench.scale_child`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        argv = [sys.executable, "-m", "tests.bench.scale_child", json.dumps(settings)]
        pipe = subprocess.PIPE
        self._inner = subprocess.Popen(
            die_with_parent.wrap(argv), cwd=procs.ROOT, env=procs.environment(), stdin=pipe,
            stdout=pipe,
        )  # fmt: skip

    def hear(self) -> str:
        """Its next line."""
        assert self._inner.stdout
        if not select.select([self._inner.stdout], [], [], PATIENCE)[0]:
            raise procs.NotReady("a child of the simulation says nothing")
        return self._inner.stdout.readline().decode()

    def tell(self, do: str, **more: Any) -> None:
        assert self._inner.stdin
        self._inner.stdin.write(orjson.dumps({"do": do, **more}) + b"\n")
        self._inner.stdin.flush()

    def ask(self, do: str = "count", **more: Any) -> dict[str, Any]:
        self.tell(do, **more)
        return cast(dict[str, Any], orjson.loads(self.hear()))

    @property
    def pid(self) -> int:
        return self._inner.pid

    def end(self) -> None:
        self._inner.kill()
        self._inner.wait()


@dataclass(frozen=True)
class Size:
    workers: int
    slots: int
    ingresses: int
    rate: float
    seconds: float
    service: float


@contextlib.contextmanager
def children(nats: Broker, size: Size) -> Iterator[tuple[Child, list[Child]]]:
    """(the ingresses, the workers), connected."""
    where = urlsplit(nats.url)
    common = {"host": where.hostname, "port": where.port, "slots": size.slots}

    def login(role: str) -> dict[str, str]:
        return dict(zip(("user", "password"), nats.users[role], strict=True))

    setup = {**common, **login("admin"), "role": "setup", "workers": size.workers}
    edge = {**common, **login("ingress"), "role": "ingresses", "count": size.ingresses}
    halves = [(0, size.workers // 2), (size.workers // 2, size.workers - size.workers // 2)]
    made: list[Child] = []
    try:
        made.append(Child(setup))
        assert made[0].hear().strip() == "ready"
        made.append(Child(edge))
        for first, count in halves:
            own = {"role": "workers", "first": first, "count": count, "service": size.service}
            made.append(Child({**common, **login("worker"), **own}))
        for child in made[1:]:
            assert child.hear().strip() == "ready"
        yield made[1], made[2:]
    finally:
        for child in made:
            child.end()


class Look:
    """What all did in some seconds."""

    def __init__(self, nats: Broker, edge: Child, workers: list[Child]) -> None:
        self._nats, self._edge, self._workers = nats, edge, workers
        self._pids = [edge.pid, *(each.pid for each in workers)]

    def during(self, seconds: float, rate: float = 0.0) -> dict[str, Any]:
        for child in (self._edge, *self._workers):
            child.ask()
        began, cpu = time.monotonic(), procs.cpu_seconds(self._nats.pid)
        others = sum(map(procs.cpu_seconds, self._pids))
        if rate:
            self._edge.tell("load", rate=rate, seconds=seconds)
            edge = orjson.loads(self._edge.hear())
        else:
            time.sleep(seconds)
            edge = self._edge.ask()
        took, used = time.monotonic() - began, procs.cpu_seconds(self._nats.pid) - cpu
        others = sum(map(procs.cpu_seconds, self._pids)) - others
        each = [child.ask() for child in self._workers]
        waits = sorted(wait for one in each for wait in one.pop("waits"))
        return {
            "seconds": took,
            "broker": used / took,
            "others": others / took,
            "rss": procs.rss_bytes(self._nats.pid) / 2**20,
            "heard": edge["heard"] / took,
            "bytes": edge["bytes"] / took,
            "published": edge["published"],
            "p50": percentile(waits, 0.5) * 1000 if waits else 0.0,
            "p99": percentile(waits, 0.99) * 1000 if waits else 0.0,
            **{name: sum(one[name] for one in each) for name in
               ("done", "statuses", "refused", "open", "n")},
            "faults": edge["faults"] + [fault for one in each for fault in one["faults"]],
        }  # fmt: skip


def step(work: Path, size: Size) -> dict[str, Any]:
    """One size: idle for some seconds, then under load."""
    store = work / f"store-{size.workers}"
    with broker.start(store, 0, None) as nats, children(nats, size) as (edge, workers):
        look = Look(nats, edge, workers)
        for child in workers:
            child.tell("pull")
        for child in workers:
            child.hear()
        time.sleep(5.0)  # all have pulled twice, and what comes of it is over
        idle = look.during(size.seconds)
        loaded = look.during(size.seconds, size.rate)
        after = look.during(size.seconds)
    return {"size": vars(size), "idle": idle, "loaded": loaded, "after": after}


COLUMNS = (
    *(">workers", ">slots", ">idle core", ">statuses/s", ">cards out/s", ">MB/s", ">RSS MiB"),
    *(">jobs/s", ">p50 ms", ">p99 ms", ">ms/job", ">done", ">refused", ">others"),
)


def row(found: dict[str, Any]) -> tuple[str, ...]:
    size, idle, loaded = found["size"], found["idle"], found["loaded"]
    jobs = loaded["published"]
    per_job = (loaded["broker"] - idle["broker"]) * loaded["seconds"] / max(1, jobs) * 1000
    return (
        str(size["workers"]), str(size["workers"] * size["slots"]),
        f"{idle['broker']:.2f}", f"{idle['statuses'] / idle['seconds']:.0f}",
        f"{idle['heard']:.0f}", f"{idle['bytes'] / 1e6:.1f}", f"{found['after']['rss']:.0f}",
        f"{jobs / loaded['seconds']:.0f}", f"{loaded['p50']:.2f}", f"{loaded['p99']:.2f}",
        f"{per_job:.2f}", f"{loaded['done'] / max(1, jobs):.0%}",
        str(idle["refused"] + loaded["refused"]), f"{loaded['others']:.2f}",
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench scale", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 300, 1000])
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--ingresses", type=int, default=20)
    parser.add_argument("--rate", type=float, default=200.0, help="jobs a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each look")
    parser.add_argument("--service", type=float, default=0.5, help="seconds that a job takes")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    console = Console(width=160)
    sample = card("n1", "n1.0000abcd", given.slots, 0).pack()
    console.print(f"a card has {len(sample)} bytes; the model is {MODEL!r}")
    rows: list[dict[str, Any]] = []
    with procs.exiting_on_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-scale-") as work:
        for workers in given.workers:
            size = Size(
                workers, given.slots, given.ingresses, given.rate, given.seconds, given.service
            )
            rows.append(step(Path(work), size))
            console.print(table(COLUMNS, [row(rows[-1])]))
            if faults := [*rows[-1]["idle"]["faults"], *rows[-1]["loaded"]["faults"]]:
                console.print(f"faults: {faults[:6]}", style="red")
    console.print(table(COLUMNS, map(row, rows), "One broker"))
    if given.json:
        given.json.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
