"""Ten times as much as the engines can do: what is accepted is answered, what is not is refused at
once, and nothing grows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from deploy.nats import broker as brokers
from tests.bench.procs import rss_bytes
from tests.bench.stats import percentile
from tests.chaos import answers
from tests.chaos.asks import ECHO, SLOW, Ask
from tests.chaos.client import Client, Outcome
from tests.fabric import Fabric, Process, fabric

TIMES = 10
SLOTS, WORKERS, DEPTH = 2, 2, 20
WORDS, TOKEN_MS = 10, 40
CAPACITY = SLOTS * WORKERS / (WORDS * TOKEN_MS / 1000)
"""Answers a second."""
LONG = 3000
"""Words for a client that hardly reads."""


@dataclass
class Overload:
    """`refused`, `answered`: seconds that each took. `told`: what the refused were told to wait."""

    seconds: float
    refused: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    memory: dict[str, list[int]] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)

    def enter(self, outcome: Outcome) -> None:
        took = outcome.till - outcome.since
        if outcome.status == 429:
            self.refused.append(took)
            self.told.append(float(outcome.retry_after))
        elif outcome.status == 200 and not answers.fault(outcome.ask, outcome.said()):
            self.answered.append(took)
        else:
            self.faults.append(f"{outcome.ask.number}: {outcome.status} {outcome.raw[-200:]!r}")

    def table(self) -> str:
        """For people."""
        most = {name: f"{max(f) / 2**20:.0f}" for name, f in self.memory.items()}
        rows = [
            f"{len(self.refused) + len(self.answered) + len(self.faults)} requests in "
            f"{self.seconds:.0f} s at {CAPACITY * TIMES:.0f}/s; engines can do {CAPACITY:.0f}/s",
            f"answered {len(self.answered)} ({len(self.answered) / self.seconds / CAPACITY:.0%} of "
            f"what engines can do), p50 {percentile(self.answered, 0.5):.2f} s",
            f"refused {len(self.refused)}, p50 {percentile(self.refused or [0.0], 0.5):.3f} s, "
            f"p99 {percentile(self.refused or [0.0], 0.99):.3f} s, "
            f"told to wait p50 {percentile(self.told or [0.0], 0.5):.0f} s",
            f"most MiB of memory: {most}",
            f"otherwise {len(self.faults)}",
        ]
        return "\n".join([*rows, *self.faults[:20]])


async def overload(home: Path, seconds: float) -> Overload:
    found = Overload(seconds)
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            ingresses = [await made.ingress({"jobs.queue_depth": DEPTH}) for _ in range(2)]
            engine = f"echo://?model={ECHO}&slots={SLOTS}&token_ms={TOKEN_MS}"
            await asyncio.gather(*(made.worker(engine) for _ in range(WORKERS)))
            for ingress in ingresses:
                await made.served(ECHO, url=ingress.url)
            watching = asyncio.create_task(_watch(found, made))
            await _load(found, ingresses)
            watching.cancel()
            await made.idle()
    return found


async def _load(found: Overload, ingresses: list[Process]) -> None:
    client, began = Client(), time.monotonic()
    total = round(found.seconds * CAPACITY * TIMES)

    async def one(number: int) -> None:
        await asyncio.sleep(began + number / CAPACITY / TIMES - time.monotonic())
        found.enter(await client.send(_ask(number), ingresses[number % len(ingresses)]))

    try:
        await asyncio.gather(*map(one, range(total)))
    finally:
        await client.close()
    found.seconds = time.monotonic() - began


def _ask(number: int) -> Ask:
    words = [f"#{number}", *(f"w{at}" for at in range(WORDS - 1))]
    messages = [{"role": "user", "content": " ".join(words)}]
    body = {"model": ECHO, "messages": messages, "stream": number % 2 == 0}
    if number % 100:
        return Ask(number, "chat", "/v1/chat/completions", body, [" ".join(words)])
    text = " ".join(words[at % len(words)] for at in range(LONG))
    body.update(max_tokens=LONG, echo={"token_ms": 0}, stream=True)
    return Ask(number, "long", "/v1/chat/completions", body, [text], conduct=SLOW, after=5.0)


async def _watch(found: Overload, made: Fabric) -> None:
    pids = {process.name: process.pid for process in made.processes}
    pids["broker"] = made.broker.pid
    while True:
        for name, pid in pids.items():
            found.memory.setdefault(name, []).append(rss_bytes(pid))
        await asyncio.sleep(1)
