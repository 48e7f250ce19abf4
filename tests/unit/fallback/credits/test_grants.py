"""Grants that are asked for over the broker, and how much of them there may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import orjson
import pytest

from fallback.credits import admin
from fallback.credits.faults import Insufficient, Refused
from fallback.credits.grants import DAY, Desk
from fallback.credits.ledger import Ledger
from tests.unit.fakes import FakeBus, message
from tests.unit.fallback.credits.counter_stream import CounterBus, Counters

ASKED = {"account": "acme", "amount": 40_000_000, "by": "root"}


class House:
    def __init__(self, ledger: Ledger) -> None:
        self.now = 0.0
        self.ledger = ledger
        self.desk = Desk(ledger, Decimal(100), lambda: self.now)

    async def grant(self, **changes: Any) -> int:
        return (await self.desk.answer({**ASKED, **changes}))["available"] // 1_000_000


@pytest.fixture
async def house() -> AsyncIterator[House]:
    ledger = Ledger(CounterBus(Counters()))
    await ledger.open()
    yield House(ledger)
    await ledger.close()


async def test_a_day_has_a_bound_whoever_it_is_for(house: House) -> None:
    assert await house.grant() == 40
    assert await house.grant(account="other") == 40
    with pytest.raises(Refused, match=r"20 of 100 can still be granted .* grants_daily"):
        await house.grant(account="third")
    house.now = DAY
    assert await house.grant() == 80


async def test_what_is_taken_back_counts_too(house: House) -> None:
    await house.ledger.grant("acme", 200_000_000)
    assert await house.grant(amount=-90_000_000) == 110
    with pytest.raises(Refused):
        await house.grant(amount=-11_000_000)


async def test_a_repeated_id_counts_once(house: House) -> None:
    for _ in range(9):
        assert await house.grant(id="g") == 40
    assert await house.grant(amount=60_000_000) == 100


async def test_what_the_ledger_refuses_does_not_count(house: House) -> None:
    for _ in range(5):
        with pytest.raises(Insufficient):
            await house.grant(amount=-50_000_000)
    assert await house.grant(amount=100_000_000) == 100


WRONG: list[dict[str, Any]] = [
    {"account": ""},
    {"account": 7},
    {"account": "a" * 5000},
    {"amount": 1.5},
    {"amount": True},
    {"amount": "1"},
    {"amount": 2**64},
    {"amount": -(2**64)},
    {"note": ["x"]},
    {"note": "n" * 501},
    {"id": 1},
    {"by": None},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_what_is_no_grant_changes_nothing(house: House, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"text|amount"):
        await house.grant(**wrong)
    assert await house.ledger.balances() == {}


QUESTIONS = [
    b"",
    b"[]",
    b"7",
    b"{}",
    b'{"op":"grant","account":"acme","amount":1000000}',
    b'{"op":"show","account":7}',
    b'{"op":"history","account":"a","limit":0}',
    b'{"op":"history","account":"a","limit":true}',
    b'{"op":"history","account":"a","since":"x"}',
    b'{"op":"history","account":"a","since":1e400}',
    b'{"op":["' + b"x" * 100_000 + b'"]}',
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: str(question[:50]))
async def test_who_may_only_read_grants_nothing_and_is_always_answered(
    house: House, question: bytes
) -> None:
    bus = FakeBus()
    await admin.answer(admin.Reader(house.ledger), bus, message("fb.ledger", question, "_I.x"))
    [(subject, data)] = [(sent.subject, sent.payload) for sent in bus.posts]
    assert subject == "_I.x"
    said = orjson.loads(data)
    assert said["kind"] == "invalid"
    assert len(said["error"]) < 600
    assert await house.ledger.balances() == {}
