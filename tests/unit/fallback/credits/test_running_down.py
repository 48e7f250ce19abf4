"""When it is said that an account's credits run out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from fallback.credits.entries import Reservation
from fallback.credits.ledger import Ledger
from fallback.credits.running_down import RunningDown
from schemas.alerts import Budget
from schemas.jetstream.alarm import Alarm
from tests.unit.fakes import FakeBus
from tests.unit.fallback.credits.counter_stream import CounterBus, Counters, purchase


class Heard(Alarm):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(FakeBus(), [80, 100])
        self.heard: list[tuple[Budget, bool]] = []

    def note(self, budget: Budget, *, empty: bool = False) -> None:
        self.heard.append((budget, empty))
        super().note(budget, empty=empty)


class House:
    def __init__(self, ledger: Ledger, alarm: Heard) -> None:
        self.ledger = ledger
        self.alarm = alarm
        self.watch = RunningDown(ledger, alarm)
        self._number = 0

    async def spend(self, cost: int, reserved: int = 0) -> None:
        self._number += 1
        job = f"j{self._number}"
        hold = await self.ledger.reserve(Reservation("acme", job, 1, "h", reserved or cost))
        await self.ledger.settle(hold, purchase(job, cost=cost))

    async def look(self, *, refused: bool = False) -> list[tuple[int, int, bool]]:
        """Used, of, and whether there is too little; what was noted since."""
        self.alarm.heard.clear()
        self.watch.look("acme", refused=refused)
        while self.watch._looking:
            await asyncio.sleep(0)
        return [(budget.used, budget.of, empty) for budget, empty in self.alarm.heard]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    ledger = Ledger(CounterBus(Counters()))
    await ledger.open()
    await ledger.grant("acme", 40)
    await ledger.grant("acme", 60)
    made = House(ledger, Heard())
    yield made
    await made.watch.close()
    await made.alarm.close()
    await ledger.close()


async def test_nothing_is_looked_up_while_there_is_enough(house: House) -> None:
    await house.spend(79)
    assert await house.look() == []
    await house.spend(1)
    assert await house.look() == [(80, 100, False)]


async def test_what_is_reserved_is_not_used(house: House) -> None:
    await house.ledger.reserve(Reservation("acme", "open", 1, "h", 95))
    assert await house.look() == [(0, 100, False)]


async def test_the_last_of_it_may_be_too_little(house: House) -> None:
    await house.spend(50)
    assert await house.look(refused=True) == [], "a dear request; there is plenty"
    await house.spend(47)
    assert await house.look(refused=True) == [(97, 100, True)]
    assert await house.look(refused=True) == [], "all is said"


async def test_a_refusal_beside_a_look_is_looked_at_behind_it(house: House) -> None:
    await house.spend(90)
    house.watch.look("acme")
    house.watch.look("acme", refused=True)
    assert await house.look() == [(90, 100, False), (90, 100, True)]


async def test_a_grant_begins_anew(house: House) -> None:
    await house.spend(100)
    assert await house.look() == [(100, 100, False)]
    await house.ledger.grant("acme", 50)
    await house.spend(45)
    assert await house.look() == [(45, 50, False)]
    [(before, _)] = house.alarm.heard
    await house.ledger.grant("acme", -2)
    assert await house.look() == [(47, 50, False)], "what is taken back is no grant"
    [(after, _)] = house.alarm.heard
    assert after.period == before.period


async def test_an_account_without_a_grant_has_no_budget(house: House) -> None:
    house.watch.look("nobody", refused=True)
    assert not house.watch._looking


async def test_who_starts_later_knows_the_grant(house: House) -> None:
    await house.spend(90)
    counters = cast(CounterBus, house.ledger._journal._bus).counters
    later = Ledger(CounterBus(counters, "two"))
    await later.open()
    found = later.topped("acme")
    assert found is not None
    assert found.balance == 100
    await later.close()
