"""Ten times as much as the engines can do: what is accepted is answered, what is not is refused at
once, and nothing grows.

Clients are processes of their own, and what a refusal took is taken from the ingress' log as well:
on a few cores a client may be late itself. Beside them some clients read a byte a second. At the
end clients that keep to `Retry-After` come all at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from deploy.nats import broker as brokers
from schemas import subjects
from tests.bench import load
from tests.bench.load import Plan, Record, Run
from tests.bench.procs import cpu_of, rss_bytes
from tests.bench.stats import percentile
from tests.chaos import answers
from tests.chaos.asks import ECHO, SLOW, Ask
from tests.chaos.client import Client, Outcome
from tests.fabric import KEY, Fabric, Process, counts, fabric

TIMES = 10
SLOTS, WORKERS, DEPTH = 2, 2, 20
WORDS, TOKEN_MS = 10, 40
CAPACITY = SLOTS * WORKERS / (WORDS * TOKEN_MS / 1000)
"""Answers a second."""
RAMP = 1.0
"""Seconds in which the queue fills: until then engines may have nothing to do."""
CALM = 10.0
"""Seconds in which clients ask no more than engines can do."""
LONG, READERS = 3000, 4
"""Words for a client that hardly reads; how many of those each ingress has."""
CROWD, RETURNS = 120, 4
"""Clients that come to one ingress at once, and how often each comes back."""


@dataclass
class Overload:
    """`runs`: of each ingress, under the load. `crowds`: of those that come at once. `readers`:
    those that hardly read. `refused_ms`: what the ingresses say that refusals took. `queued`: jobs
    in the stream, second by second."""

    seconds: float
    undisturbed: float = 0.0
    """Answers a second when there were as many clients as engines can serve at once."""
    runs: list[Run] = field(default_factory=list)
    crowds: list[Run] = field(default_factory=list)
    readers: list[Outcome] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    memory: dict[str, list[int]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds that each process worked under the load."""

    @property
    def faults(self) -> list[str]:
        """What was neither answered rightly nor refused, and a queue that is too long."""
        broken = [r for run in self.runs for r in run.failed if r.status != 429]
        broken += [r for run in self.crowds for r in run.failed if r.status != 429]
        stalled = [o for o in self.readers if answers.fault(o.ask, o.said())]
        return [
            *(f"{record.number}: {record.status} {record.fault}" for record in broken),
            *(f"{outcome.ask.number}: {outcome.broken or outcome.status}" for outcome in stalled),
            *(f"{queued} jobs in the queue" for queued in self.queued if queued > DEPTH),
        ]

    def table(self) -> str:
        """For people."""
        records = list(chain.from_iterable(run.records for run in self.runs))
        refused = [took for record in records for took, _ in record.refusals]
        told = [seconds for record in records for _, seconds in record.refusals]
        memory = {
            name: f"{found[0] / 2**20:.0f}, {max(found) / 2**20:.0f}, {found[-1] / 2**20:.0f}"
            for name, found in self.memory.items()
        }
        rows = [
            f"{len(records)} requests in {self.seconds:.0f} s at {CAPACITY * TIMES:.0f}/s; engines "
            f"do {self.undisturbed:.1f}/s without load, and {self._rate(records):.1f}/s under it: "
            f"{self._rate(records) / self.undisturbed:.1%}",
            f"refused {len(refused)}; seconds, by clients: {_spread(refused)}; "
            f"by the ingresses: {_spread([ms / 1000 for ms in self.refused_ms])}",
            f"told to wait p50 {percentile(told, 0.5):.0f} s, most {max(told):.0f} s; "
            f"at most {max(self.queued)} in the queue, which holds {DEPTH}",
            f"{len(self.readers)} clients read a byte a second meanwhile, and all in the end",
            *map(_crowd, self.crowds),
            f"ms of CPU per request: {self._work(len(records))}",
            f"MiB of memory before, at most and after: {memory}",
        ]
        return "\n".join([*rows, f"faults: {len(self.faults)}", *self.faults[:20]])

    def _work(self, requests: int) -> dict[str, float]:
        return {name: round(took / requests * 1000, 2) for name, took in self.cpu.items()}

    def _rate(self, records: list[Record]) -> float:
        since = min(record.due for record in records) + RAMP
        till = max(record.due for record in records)
        whole = [r for r in records if r.status == 200 and r.end and since < r.end <= till]
        return len(whole) / (till - since)


def _spread(seconds: list[float]) -> str:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
    return ", ".join(f"{name} {percentile(seconds, share):.3f}" for name, share in shares.items())


def _crowd(run: Run) -> str:
    came = [0] * (RETURNS + 1)
    for record in run.records:
        if record.status == 200:
            came[len(record.refusals)] += 1
    back = sum(bool(record.refusals) for record in run.records)
    waits = sorted(record.refusals[0][1] for record in run.records if record.refusals)
    return (
        f"{len(run.records)} at once, {back} refused and told to wait {waits[0]:.0f} to "
        f"{waits[-1]:.0f} s: let in after so many refusals: {dict(enumerate(came))}"
    )


async def overload(home: Path, seconds: float) -> Overload:
    found = Overload(seconds)
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home, {"log.level": "info"}) as made:
            ingresses = [await made.ingress({"jobs.queue_depth": DEPTH}) for _ in range(2)]
            engine = f"echo://?model={ECHO}&slots={SLOTS}&token_ms={TOKEN_MS}"
            told = {"log.level": "debug"}
            workers = await asyncio.gather(*(made.worker(engine, told) for _ in range(WORKERS)))
            for ingress in ingresses:
                await made.served(ECHO, url=ingress.url)
            watching = asyncio.create_task(_watch(found, made))
            await _carry_out(found, made, ingresses, workers)
            watching.cancel()
    return found


async def _carry_out(
    found: Overload, made: Fabric, ingresses: list[Process], workers: list[Process]
) -> None:
    urls = [ingress.url for ingress in ingresses]
    alone = await _run(_plan(urls[0], round(CALM * CAPACITY), concurrency=SLOTS * WORKERS + 1))
    found.undisturbed = len(alone.records) / alone.seconds
    readers = [asyncio.create_task(_read(found, ingress)) for ingress in ingresses]
    # Their answers are made, and wait at the ingresses.
    await counts(workers, "runner.ended", len(alone.records) + READERS * len(ingresses))
    requests = round(found.seconds * CAPACITY * TIMES / len(urls))
    rate = CAPACITY * TIMES / len(urls)
    plans = [
        _plan(url, requests, rate=rate, seed=at, stream=at % 2 == 0) for at, url in enumerate(urls)
    ]
    pids = _pids(made)
    before = cpu_of(pids)
    found.runs = await asyncio.gather(*map(_run, plans))
    found.cpu = {name: took - before[name] for name, took in cpu_of(pids).items()}
    found.refused_ms = [
        float(line["ms"])
        for ingress in ingresses
        for line in ingress.lines
        if line.get("event") == "request" and line.get("status") == 429
    ]
    await asyncio.gather(*readers)
    await made.idle()
    crowd = _plan(urls[0], CROWD, concurrency=CROWD, returns=RETURNS)
    found.crowds.append(await _run(crowd))
    await made.idle()


async def _run(plan: Plan) -> Run:
    return await asyncio.to_thread(load.run, plan, 600.0)


def _plan(url: str, requests: int, **more: object) -> Plan:
    said = " ".join(load.WORDS.split()[:WORDS])
    fixed = {"model": ECHO, "key": KEY, "tokens": WORDS, "expect": said, "concurrency": requests}
    return Plan([url], requests, **{**fixed, **more})  # type: ignore[arg-type]


async def _read(found: Overload, ingress: Process) -> None:
    client = Client()
    try:
        asks = [client.send(_long(number, found.seconds), ingress) for number in range(READERS)]
        found.readers += await asyncio.gather(*asks)
    finally:
        await client.close()


def _long(number: int, seconds: float) -> Ask:
    words = [f"#{number}", *(f"w{at}" for at in range(WORDS - 1))]
    messages = [{"role": "user", "content": " ".join(words)}]
    body = {"model": ECHO, "messages": messages, "max_tokens": LONG, "stream": True}
    body["echo"] = {"token_ms": 0}
    text = " ".join(words[at % len(words)] for at in range(LONG))
    return Ask(number, "long", "/v1/chat/completions", body, [text], conduct=SLOW, after=seconds)


def _pids(made: Fabric) -> dict[str, int]:
    return {"broker": made.broker.pid} | {each.name: each.pid for each in made.processes}


async def _watch(found: Overload, made: Fabric) -> None:
    pids = _pids(made)
    bus = await made.admin()
    try:
        while True:
            for name, pid in pids.items():
                found.memory.setdefault(name, []).append(rss_bytes(pid))
            state = (await bus.api(f"STREAM.INFO.{subjects.JOBS_STREAM}"))["state"]
            found.queued.append(int(state["messages"]))
            await asyncio.sleep(1)
    finally:
        await bus.close()
