"""A ledger that stops where a test wants to step in, and attempts with a route of one's own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from fallback.attempt import ProviderAttempt
from fallback.cost.spent import Spent
from fallback.credits.billing import Billing
from fallback.credits.entries import Hold, Purchase, Reservation
from fallback.credits.faults import LedgerError
from fallback.credits.ledger import Ledger
from fallback.policy import Choice, Chosen
from fallback.providers.base import Task
from fallback.providers.request import request_of
from schemas.settings import Price, Route
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.fallback.engine_doubles import FakeLedger
from workers.attempt import Attempt

PRICE = Price(provider="p", model="m", input=1, output=2)


class PausedLedger(FakeLedger):
    """`stops`: the step before whose effect it waits for `goes_on`; `reached` says it is there.
    `refuses`: the steps that the broker does not take."""

    def __init__(self, *, stops: str = "", refuses: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.stops = stops
        self.refuses = refuses
        self.reached = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.owed: list[str] = []
        self.asked: list[Reservation] = []

    async def _step(self, name: str) -> None:
        if name in self.refuses:
            self.closed.set()
            raise LedgerError("away")
        if name == self.stops:
            self.reached.set()
            await self.goes_on.wait()

    async def reserve(self, what: Reservation) -> Hold:
        self.asked.append(what)
        await self._step("reserve")
        return await super().reserve(what)

    async def settle(self, hold: Hold, purchase: Purchase) -> bool:
        """As the ledger's own, it is owed from here on: a cancelled one is repeated."""
        self.owed.append("charge")
        await self._step("settle")
        return await super().settle(hold, purchase)

    async def release(self, held: Hold, why: str) -> None:
        self.owed.append("release")
        await self._step("release")
        await super().release(held, why)


def billing(ledger: FakeLedger, price: Price = PRICE) -> Billing:
    prices = {("a", "m"): price, ("b", "m"): price}
    return Billing(cast(Ledger, ledger), prices, "USD", "fb-1", spends=None, lowest=0)


def attempt(bus: FakeBus, ack: str = "", unpaid: Any = "refuse", **changed: Any) -> ProviderAttempt:
    job = fakes.job(**{"asked": "chat", **changed})
    delivery = Attempt(bus, fakes.HOLDER, job, ack or fakes.ack(), 2**20)
    route = Route(name="chat", model="echo", providers=["a/m", "b/m"], unpaid=unpaid)
    request, body = request_of(job, job.body)
    return ProviderAttempt(job, delivery, route, request, body, 1_700_000_000.0)


def task(attempt: ProviderAttempt) -> Task:
    job = attempt.job
    return Task(job, "m", attempt.request, attempt.body, job.content_type)


def chosen(**worst: int) -> Chosen:
    """``chosen(a=5, b=3)``: what each provider may cost."""
    return Chosen(tuple(Choice(name, "m", most) for name, most in worst.items()), ())


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for a task that may have been cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await task


class Used:
    """A counter of a call that runs."""

    def __init__(self, spent: Spent) -> None:
        self._spent = spent

    def spent(self) -> Spent:
        return self._spent
