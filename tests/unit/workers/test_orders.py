from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from schemas.bus import BusError
from schemas.identity import Ask, NotObeyed
from schemas.registry import Order
from tests.unit import fakes
from workers import orders
from workers.orders import Orders


class Keeper:
    """Keeps what it is told."""

    public = ""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.names: list[str] = []
        self.refuses = 0

    async def rotate(self, ask: Ask) -> None:
        if self.refuses:
            self.refuses -= 1
            raise NotObeyed("no")
        self.asked.append(await ask(b"new key"))

    def rename(self, name: str) -> None:
        self.names.append(name)


class OrdersSetup:
    def __init__(self, identity: Keeper | None = None) -> None:
        self.paused: list[bool] = []
        self.did: list[str] = []
        self.faults = 0
        self._news = asyncio.Event()
        self.keeper = Keeper()
        self.orders = Orders("n", self, identity or self.keeper)
        self.task = asyncio.create_task(self.orders.obey())

    async def pause(self, paused: bool) -> None:
        if self.faults:
            self.faults -= 1
            raise BusError("away")
        self.paused.append(paused)
        self._news.set()

    async def pull_again(self) -> None:
        self.did.append("pull")
        self._news.set()

    async def renew(self) -> None:
        self.did.append("renew")
        self._news.set()

    async def ask(self, payload: bytes) -> bytes:
        self.did.append("ask")
        return payload

    def leave(self) -> None:
        self.did.append("leave")
        self._news.set()

    def order(self, drained: bool = False, rotate: float = 0.0, name: str = "n") -> None:
        self.orders.hear(Order(name, drained, rotate).pack())

    async def until_done(self, did: list[str]) -> None:
        async with asyncio.timeout(fakes.PATIENCE):
            while self.did != did:
                self._news.clear()
                await self._news.wait()

    async def until(self, paused: list[bool]) -> None:
        async with asyncio.timeout(fakes.PATIENCE):
            while self.paused != paused:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def setup() -> AsyncIterator[OrdersSetup]:
    made = OrdersSetup()
    yield made
    made.task.cancel()


async def test_each_change_is_obeyed_once(setup: OrdersSetup) -> None:
    for drained in (False, True, True, False):
        setup.order(drained)
        assert setup.orders.drained is drained
        await fakes.turns()
    assert setup.paused == [True, False]


async def test_of_two_orders_at_once_the_last_one_holds(setup: OrdersSetup) -> None:
    setup.order(True)
    setup.order(False)
    await fakes.turns()
    assert setup.paused == []


async def test_what_cannot_be_obeyed_is_tried_again(
    setup: OrdersSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_AGAIN", 0.001)
    setup.faults = 2
    setup.order(True)
    await setup.until([True])


async def test_what_is_no_order_changes_nothing(setup: OrdersSetup) -> None:
    setup.order(True)
    for said in (b"", b"{}", b"rubbish", b'{"name": "n", "drained": 1}'):
        setup.orders.hear(said)
    assert setup.orders.drained


async def test_keys_are_changed_once_for_each_order(
    setup: OrdersSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_AGAIN", 0.001)
    setup.keeper.refuses = 1
    setup.order(rotate=5.0)
    await setup.until_done(["ask", "renew"])
    assert setup.keeper.asked == [b"new key"]
    for rotate in (0.0, 5.0):
        setup.order(rotate=rotate)
        await fakes.turns()
    assert setup.did == ["ask", "renew"]
    setup.order(rotate=6.0)
    await setup.until_done(["ask", "renew"] * 2)


async def test_it_leaves_to_come_back_by_another_name(setup: OrdersSetup) -> None:
    setup.order(name="other")
    await setup.until_done(["leave"])
    assert setup.keeper.names == ["other"]


async def test_one_of_the_hubs_own_machine_keeps_name_and_keys() -> None:
    setup = OrdersSetup()
    setup.task.cancel()
    alone = Orders("n", setup)
    task = asyncio.create_task(alone.obey())
    alone.hear(Order("other", True, 5.0).pack())
    await setup.until([True])
    await fakes.turns()
    assert setup.did == []
    task.cancel()


async def test_it_asks_for_jobs_anew_once_it_was_granted_more(setup: OrdersSetup) -> None:
    for granted in (1.0, 1.0, 3.0):
        setup.orders.hear(Order("n", granted=granted).pack())
        await fakes.turns()
    assert setup.did == ["pull", "pull"]
