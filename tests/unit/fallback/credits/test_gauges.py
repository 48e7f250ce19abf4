"""What Prometheus is told of the accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import REGISTRY

from fallback.credits.entries import MICRO, Reservation
from fallback.credits.gauges import CreditGauges
from fallback.credits.ledger import Ledger
from schemas import metrics
from schemas.bus import BusError
from tests.unit.fallback.credits.counter_stream import CounterBus, Counters, purchase, subject


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    yield
    metrics.CREDITS_AVAILABLE.clear()
    metrics.CREDITS_RESERVED.clear()


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
async def ledger(counters: Counters) -> AsyncIterator[Ledger]:
    made = Ledger(CounterBus(counters))
    await made.open()
    yield made
    await made.close()


def shown(account: str) -> tuple[float | None, float | None]:
    """Available, reserved."""
    names = "headrace_credits_available", "headrace_credits_reserved"
    return tuple(REGISTRY.get_sample_value(name, {"account": account}) for name in names)  # type: ignore[return-value]


async def test_what_is_reserved_is_not_available(ledger: Ledger) -> None:
    await ledger.grant("acme", 10 * MICRO)
    gauges = CreditGauges(ledger)
    await gauges.open()
    assert shown("acme") == (10, 0)
    hold = await ledger.reserve(Reservation("acme", "j", 1, "h", 4 * MICRO))
    gauges.show()
    assert shown("acme") == (6, 4)
    await ledger.settle(hold, purchase("j", cost=MICRO))
    gauges.show()
    assert shown("acme") == (9, 0)


async def test_those_used_last_are_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_ACCOUNTS", 2)
    for number, account in enumerate(("one", "two", "three", "four")):
        await ledger.grant(account, (number + 1) * MICRO)
    gauges = CreditGauges(ledger)
    await gauges.open()
    assert [shown(name) for name in ("one", "two", "three", "four")] == [
        (None, None),
        (None, None),
        (3, 0),
        (4, 0),
    ]
    assert shown(metrics.OTHER) == (3, 0)
    await ledger.grant("one", MICRO)
    gauges.show()
    assert (shown("one"), shown("three")) == ((2, 0), (None, None))
    assert shown(metrics.OTHER) == (5, 0)


async def test_an_account_that_is_called_as_the_rest_is_in_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_ACCOUNTS", 1)
    await ledger.grant("one", MICRO)
    await ledger.grant(metrics.OTHER, 2 * MICRO)
    await CreditGauges(ledger).open()
    assert shown(metrics.OTHER) == (3, 0)


async def test_accounts_from_before_are_asked_for(
    counters: Counters, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def counts(*_: object) -> tuple[dict[str, int], float]:
        return {subject("acme"): 1}, counters.now

    monkeypatch.setattr("fallback.credits.journal.streams.counts", counts)
    await ledger.grant("acme", MICRO)
    counters.now += 10 * 86_400
    late = Ledger(CounterBus(counters))
    await late.open()
    try:
        assert late.standing(1) == ({}, None)
        await CreditGauges(late).open()
        assert shown("acme") == (1, 0)
    finally:
        await late.close()


async def test_a_broker_that_does_not_tell_stops_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> list[str]:
        raise BusError("away")

    await ledger.grant("acme", MICRO)
    monkeypatch.setattr("fallback.credits.journal.streams.counts", lambda *_: away())
    await CreditGauges(ledger).open()
    assert shown("acme") == (1, 0)
