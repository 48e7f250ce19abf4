"""A fallback's engine among doubles: providers that do as a test says, and a ledger in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fallback.cost.spent import Spent
from fallback.credits.billing import Billing
from fallback.credits.entries import Hold, Name, Purchase, Reservation
from fallback.credits.faults import Insufficient
from fallback.engine import CloudEngine
from fallback.policy import CloudRoutes
from fallback.providers.base import ProviderFault, Task
from schemas import frames
from schemas.frames import Kind
from schemas.nodes import Ignored
from schemas.settings import Fallback, Price, Route
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.attempt import Attempt
from workers.engines.base import Sink

CHAT = "/v1/chat/completions"
SPENT = Spent(prompt=10, completion=5)
COST = 10 * 1 + 5 * 2
Act = Callable[[Task, Sink], Awaitable[Spent]]


async def answers(task: Task, sink: Sink) -> Spent:
    sink.start(200, "application/json")
    sink.data(b"{}")
    return SPENT


class FakeProvider:
    """A provider; `acts` are for the calls to come, the last one for all after it."""

    kind = "compatible"
    choices = 128
    host = "provider.test"

    def __init__(self, name: str, *acts: Act) -> None:
        self.name = name
        self.acts = list(acts) or [answers]
        self.calls: list[Task] = []
        self.paths = frozenset({CHAT})
        self.why = ""
        self.lost = 0

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    def endpoints(self, model: str) -> frozenset[str]:
        return self.paths

    def ignores(self, model: str) -> tuple[Ignored, ...]:
        return ()

    def resumes(self, model: str, endpoint: str) -> bool:
        return endpoint == CHAT

    def unfit(self, task: Task) -> str:
        return self.why

    def lost_hints(self, task: Task) -> int:
        return self.lost

    async def call(self, task: Task, sink: Sink) -> Spent:
        self.calls.append(task)
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        return await act(task, sink)


def fails(reason: Any = "failed", **more: Any) -> Act:
    async def act(task: Task, sink: Sink) -> Spent:
        raise ProviderFault("it broke", reason, **more)

    return act


class FakeLedger:
    """Stands for `fallback.credits.ledger.Ledger`: what was done, in its order."""

    def __init__(self, money: int = 10**9) -> None:
        self.money = money
        self.log: list[tuple[str, int]] = []
        self.fault: Exception | None = None
        self.paid = False
        self.closed = asyncio.Event()

    async def reserve(self, what: Reservation) -> Hold:
        if self.fault is not None:
            raise self.fault
        if what.amount > self.money:
            raise Insufficient(what.amount, self.money)
        self.log.append(("reserve", what.amount))
        return Hold(what, Name(what.job, what.turn), 1, paid=self.paid)

    async def settle(self, hold: Hold, purchase: Purchase) -> bool:
        self.log.append(("charge", purchase.cost))
        self.closed.set()
        return True

    async def release(self, held: Hold, why: str) -> None:
        self.log.append((f"release: {why}", held.what.amount))
        self.closed.set()


class EngineSetup:
    def __init__(self, bus: FakeBus, *providers: FakeProvider, **route: Any) -> None:
        self.bus = bus
        self.ledger = FakeLedger()
        names = [f"{each.name}/m" for each in providers]
        made = Route(name="chat", model="echo", providers=names, **route)
        routes = CloudRoutes([made])
        price = Price(provider="p", model="m", input=1, output=2)
        prices = {(each.name, "m"): price for each in providers}
        ledger: Any = self.ledger
        billing = Billing(ledger, prices, "USD", "fb-1", spends=None, lowest=0)
        config = Fallback(breaker_failures=2, breaker_open=60)
        pairs: Any = [(each, 2) for each in providers]
        self.engine = CloudEngine(pairs, routes, prices, billing, config)

    def attempt(self, granted: bool = True, **changed: Any) -> Attempt:
        job = fakes.job(**{"asked": "chat", **changed})
        made = Attempt(self.bus, fakes.HOLDER, job, fakes.ack(), 2**20)
        if granted:
            made.permitted.set_result(None)
        return made

    async def run(self, attempt: Attempt) -> frames.End:
        return await self.engine.run(attempt.job, attempt.job.body, attempt)

    async def sent(self) -> list[Kind]:
        await asyncio.sleep(0)
        return [Kind(f.kind) for post in self.bus.posts for f in frames.unpack(post.payload)]
