"""An hour of steady load at 70 % of the slots, with nothing disturbed: what grows, leaks.

The time has `PARTS` parts. In each of them clients come at random times, and then all is at rest
for a while, when descriptors, subscriptions and consumers are counted. The first part is warm-up.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from schemas import nodes, subjects
from schemas.api import endpoints
from schemas.bus import Message
from tests.bench.procs import cpu_seconds, rss_bytes
from tests.chaos import asks, books
from tests.chaos.asks import ECHO, LEAVES, MIXED, SLOW, STAYS, Ask
from tests.chaos.client import Client, Outcome
from tests.chaos.ledger import FAULTS, HONEST, Ledger
from tests.chaos.stage import SLOTS, WORKERS, Pace, Stage, stage

PARTS = 6
SHARE = 0.7
REST = 60.0
"""Seconds: more than idle connections of clients and to providers are kept, or consumers that read
once. Those to engines stay."""
KEPT = 4
"""Descriptors that may come and go: connections to the slots of an engine, files of the store."""
PACE = Pace(first_ms=50, token_ms=100, level="info")
KEYED, REFUSED = 0.1, 0.03
"""Of the requests, so many have a key and are repeated, and so many more are refused."""
MOST_GROWTH, BROKER = 0.05, 96 * 2**20
"""The broker keeps the file that it writes of each stream, up to 8 MiB: it has a bound instead."""
REFUSALS: Sequence[tuple[dict[str, Any], dict[str, str], int]] = (
    ({"model": ECHO}, {}, 400),
    ({"model": "nobody", "messages": [{"role": "user", "content": "one"}]}, {}, 404),
    ({"model": ECHO, "messages": [{"role": "user", "content": "one"}], "n": 0}, {}, 400),
    ({"model": ECHO, "messages": []}, {"Authorization": "Bearer wrong"}, 401),
)


@dataclass
class Part:
    """What was seen in one part, by the processes' names. `rest`: counted once all was at rest."""

    memory: dict[str, list[int]] = field(default_factory=dict)
    busy: list[int] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)
    """Descriptors by process, and what the broker counts."""


@dataclass
class Soak:
    stage: Stage
    ledger: Ledger
    client: Client
    seed: int
    keyed: float = KEYED
    parts: list[Part] = field(default_factory=list)
    extra: Counter[str] = field(default_factory=Counter)
    """Requests that the ledger does not know: repeated and refused ones."""
    faults: list[str] = field(default_factory=list)
    cards: dict[str, nodes.Card] = field(default_factory=dict)
    numbers: int = 0
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def pids(self) -> dict[str, int]:
        pids = {process.name: process.pid for process in self.stage.processes}
        return {"broker": self.stage.setup.fabric.broker.pid, **pids}

    async def run(self, seconds: float) -> None:
        draw, rest = random.Random(f"soak:{self.seed}"), min(REST, seconds / PARTS / 4)
        for _ in range(PARTS):
            part = Part()
            self.parts.append(part)
            before, began = self._cpu(), time.monotonic()
            watching = asyncio.create_task(self._watch(part))
            await self._load(draw, began + seconds / PARTS - rest)
            watching.cancel()
            part.cpu = {
                name: (now - before[name]) / (time.monotonic() - began)
                for name, now in self._cpu().items()
            }
            await asyncio.sleep(rest)
            part.rest = await self._at_rest()
            print(self.line(len(self.parts)), flush=True)

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}

    async def _load(self, draw: random.Random, until: float) -> None:
        rate = SHARE * SLOTS * WORKERS / _seconds_of_a_slot(self.seed)
        while time.monotonic() < until:
            await asyncio.sleep(draw.expovariate(rate))
            self.numbers += 1
            self._begin(self._one(self.numbers, draw.random(), draw.choice((0, 1))))
            if draw.random() < REFUSED:
                self._begin(self._refused(*draw.choice(REFUSALS)))
        if self._running:
            await asyncio.wait(self._running)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if error := task.exception():
            self.faults.append(f"a client ended with {error!r}")

    async def _one(self, number: int, roll: float, place: int) -> None:
        ask = _steady(asks.drawn(self.seed, number))
        first, other = self.stage.serving()[place], self.stage.serving()[1 - place]
        if roll < self.keyed and ask.conduct != SLOW:
            ask = replace(ask, key=f"{self.seed}-{number}")
        outcome = await self.client.send(ask, first)
        verdict = self.ledger.enter(outcome)
        if ask.key and ask.conduct == STAYS and verdict.word == "right":
            await self._repeat(ask, outcome, other)

    async def _repeat(self, ask: Ask, first: Outcome, other: Any) -> None:
        again = await self.client.send(ask, other)
        self.extra["repeated"] += 1
        if (again.status, again.raw) != (first.status, first.raw):
            self.faults.append(f"request {ask.number} was repeated otherwise: {again.raw[-200:]!r}")
        changed = replace(ask, body={**ask.body, "temperature": 0.5})
        refused = await self.client.send(changed, other)
        self.extra["refused"] += 1
        if refused.status != 409:
            self.faults.append(f"another body with the same key got {refused.status}")

    async def _refused(self, body: dict[str, Any], headers: dict[str, str], status: int) -> None:
        fabric = self.stage.setup.fabric
        url = self.stage.serving()[0].url + endpoints.CHAT.path
        sent = {**fabric.headers, **headers, "Connection": "close"}
        async with fabric.session.post(url, json=body, headers=sent) as answer:
            await answer.read()
        self.extra["refused"] += 1
        if answer.status != status:
            self.faults.append(f"{body} got {answer.status}, not {status}")

    async def _watch(self, part: Part) -> None:
        while True:
            await asyncio.sleep(5)
            for name, pid in self.pids.items():
                part.memory.setdefault(name, []).append(rss_bytes(pid))
            engines = [engine for card in self.cards.values() for engine in card.engines]
            part.busy.append(sum(engine.busy for engine in engines if engine.name == "echo"))

    async def _at_rest(self) -> dict[str, int]:
        await self.stage.setup.fabric.idle()
        found = {
            name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in self.pids.items()
        }
        jsz, subsz = await self._asked("jsz"), await self._asked("subsz")
        connz = await self._asked("connz?subs=1")
        found["connections"] = connz["num_connections"]
        found["subscriptions"] = subsz["num_subscriptions"]
        found["consumers"] = jsz["consumers"]
        return found

    async def _asked(self, page: str) -> Any:
        url = f"{self.stage.setup.fabric.broker.http_url}/{page}"
        async with self.stage.setup.fabric.session.get(url) as answer:
            return json.loads(await answer.read())

    # The table

    def line(self, number: int) -> str:
        part = self.parts[number - 1]
        memory = {name: f"{median(found) / 2**20:.1f}" for name, found in part.memory.items()}
        busy = mean(part.busy or [0]) / (SLOTS * WORKERS)
        cpu = sum(part.cpu.values())
        return f"part {number}: MiB {memory}, busy {busy:.0%}, {cpu:.1%} of a core, {part.rest}"

    def growth(self, name: str) -> float:
        """From the second part to the last one, by the medians."""
        return median(self.parts[-1].memory[name]) / median(self.parts[1].memory[name]) - 1

    def judge(self) -> None:
        for name in self.parts[1].memory:
            if name == "broker" and max(self.parts[-1].memory[name]) < BROKER:
                continue
            if (growth := self.growth(name)) > MOST_GROWTH:
                self.faults.append(f"{name} grew by {growth:.1%}")
        for name in self.parts[1].rest:
            seen = [part.rest[name] for part in self.parts[1:]]
            if max(seen) - min(seen) > (KEPT if name in self.pids else 0):
                self.faults.append(f"{name} did not stay what it was: {seen}")

    def table(self) -> str:
        counts = {word: self.ledger.count(word) for word in (*HONEST, *FAULTS)}
        rows = [f"seed {self.seed}, {len(self.ledger.outcomes)} requests, {dict(self.extra)}"]
        rows += [f"  {word:15} {count:6}" for word, count in counts.items() if count]
        rows.append(self.ledger.bought)
        rows.append("| process | MiB after warm-up | at the end | growth | CPU | descriptors |")
        rows.append("| --- | --- | --- | --- | --- | --- |")
        for name in self.pids:
            first, last = (median(part.memory[name]) / 2**20 for part in self.parts[1 :: PARTS - 2])
            cpu = mean(part.cpu[name] for part in self.parts[1:])
            seen = sorted({part.rest[name] for part in self.parts[1:]})
            rows.append(
                f"| {name} | {first:.1f} | {last:.1f} | {self.growth(name):+.1%} | {cpu:.1%} | "
                f"{'–'.join(map(str, seen))} |"
            )
        rows += [self.line(number) for number in range(1, PARTS + 1)]
        return "\n".join([*rows, *self.faults])


def _steady(ask: Ask) -> Ask:
    """Without a pace of its own that is far from that of the engines."""
    if ask.kind.startswith("engine"):
        body = {name: said for name, said in ask.body.items() if name != "echo"}
        return replace(ask, body=body, kind="chat")
    return ask


def _seconds_of_a_slot(seed: int) -> float:
    """How long a request takes a slot of the echo engines, on average."""
    found = [_seconds(_steady(asks.drawn(seed, number))) for number in range(1, 2000)]
    return mean(found)


def _seconds(ask: Ask) -> float:
    text = ask.texts[0]
    if ask.model not in (ECHO, MIXED) or not isinstance(text, str) or ask.kind == "long":
        return 0.0
    taken = 0.5 if ask.conduct == LEAVES else 1.0
    return taken * (PACE.first_ms + PACE.token_ms * len(text.split())) / 1000


async def soak(home: Path, seed: int, seconds: float, keyed: float = KEYED) -> Soak:
    async with stage(home, PACE, fresh=True) as made:
        found = Soak(made, Ledger(made), Client(), seed, keyed)
        bus = await made.setup.fabric.admin()

        def hear(message: Message) -> None:
            card = nodes.unpack(message.data, partly=True)
            found.cards[card.holder] = card

        try:
            await bus.subscribe(subjects.ALL_CARDS, hear)
            await found.run(seconds)
        finally:
            await found.client.close()
            await bus.close()
        found.judge()
        found.faults += found.ledger.faults + await books.closed(made, found.ledger)
        return found
