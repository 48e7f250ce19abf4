"""A run: clients ask without a pause while the stage is disturbed; then the books are closed."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import asks, books
from tests.chaos.asks import CLOUD, ECHO, PARROT, Ask
from tests.chaos.client import Client, Outcome
from tests.chaos.ledger import FAULTS, HONEST, Ledger
from tests.chaos.stage import Stage, stage
from tests.chaos.strikes import Blow, Strikes
from tests.fabric import Process

FEW = 4
"""Requests that end between two disturbances at least."""
ASKED = {"engine": PARROT, "fallback": CLOUD}
"""Whose requests, besides those for echo engines, such a process may have."""
_AGAIN = 5
"""How often a client that was turned away, and nothing else, asks another ingress."""


@dataclass
class Report:
    """`faults`: what must not be; empty if all is well."""

    seed: int
    seconds: float
    ledger: Ledger
    strikes: Strikes
    faults: list[str]

    def table(self) -> str:
        """As text for people: what was asked, what became of it, what was done meanwhile."""
        counts = {word: self.ledger.count(word) for word in (*HONEST, *FAULTS)}
        rows = [f"seed {self.seed}, {self.seconds:.0f} s, {len(self.ledger.outcomes)} requests, "]
        rows[0] += f"{self.strikes.struck.total()} disturbances"
        rows += [f"  {word:15} {count:6}" for word, count in counts.items()]
        rows += [f"  {name:20} {count:4}" for name, count in sorted(self.strikes.struck.items())]
        return "\n".join([*rows, self.ledger.bought, *self.faults])


class _Load:
    """Clients that take numbers until they are told to stop."""

    def __init__(self, stage: Stage, seed: int, pause: float) -> None:
        self.ledger = Ledger(stage)
        self.stopped = False
        self._stage = stage
        self._seed = seed
        self._numbers = itertools.count(1)
        self._draw = random.Random(f"load:{seed}")
        self._pause = pause
        self._client = Client()
        self._running: Counter[str] = Counter()
        """Requests under way, by model."""
        self._ended = asyncio.Condition()

    async def met(self, among: str) -> None:
        """Wait until some more requests have ended, and one runs that such a process may have."""
        wanted, model = len(self.ledger.outcomes) + FEW, ASKED.get(among, ECHO)
        async with self._ended:
            await self._ended.wait_for(
                lambda: len(self.ledger.outcomes) >= wanted and self._running[model] > 0
            )

    async def run(self, clients: int) -> None:
        try:
            await asyncio.gather(*(self._one() for _ in range(clients)))
        finally:
            await self._client.close()

    async def _one(self) -> None:
        while not self.stopped:
            ask = asks.drawn(self._seed, next(self._numbers))
            for _ in range(_AGAIN):
                ingress = self._draw.choice(self._stage.serving())
                verdict = self.ledger.enter(await self._sent(ask, ingress))
                if verdict.word != "turned away":
                    break
            await asyncio.sleep(self._draw.uniform(0, 2 * self._pause))

    async def _sent(self, ask: Ask, ingress: Process) -> Outcome:
        self._running[ask.model] += 1
        await self._tell()
        try:
            return await self._client.send(ask, ingress)
        finally:
            self._running[ask.model] -= 1
            await self._tell()

    async def _tell(self) -> None:
        async with self._ended:
            self._ended.notify_all()


async def run(
    home: Path,
    seed: int,
    blows: Sequence[Blow],
    clients: int,
    pause: float = 0.0,
    in_turn: bool = False,
) -> Report:
    """`pause`: seconds between two requests of one client, on average. `in_turn`: blows come one
    after the other, when there is something to strike, not at their times."""
    async with stage(home) as made:
        load = _Load(made, seed, pause)
        strikes = Strikes(made)
        began = time.monotonic()
        loading = asyncio.create_task(load.run(clients))
        try:
            await (strikes.in_turn(blows, load.met) if in_turn else strikes.run(blows))
        finally:
            load.stopped = True
        await loading
        faults = load.ledger.faults + await books.closed(made, load.ledger)
        return Report(seed, time.monotonic() - began, load.ledger, strikes, faults)
