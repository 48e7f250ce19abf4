"""Which prices are known, and whether they suffice."""

from __future__ import annotations

from typing import Any

import pytest

from fallback.cost import price_list
from fallback.cost.price_list import Prices, listed
from fallback.cost.pricing import NEEDED, lacking
from fallback.providers.kinds import KINDS
from schemas.api.endpoints import WORDS
from schemas.settings import Price, Provider, Route


def test_every_listed_price_is_dated_and_can_bill_something(subtests: pytest.Subtests) -> None:
    for at in listed().values():
        with subtests.test(f"{at!r:.60}"):
            assert at.date
            can = KINDS[at.provider].family(at.model).endpoints
            paid = filter(None, (NEEDED[WORDS[each]] for each in can))
            assert not all(lacking(needed, at) for needed in paid)


def test_own_prices_go_first_and_dates_are_left_out() -> None:
    own = Price(provider="mine", model="gpt-4o-mini", input=9, output=9)
    prices = Prices([own])
    assert prices.of("openai", "mine", "gpt-4o-mini") == own
    listed_one = prices.of("openai", "other", "gpt-4o-mini")
    assert listed_one is not None
    assert prices.of("openai", "other", "gpt-4o-mini-2024-07-18") == listed_one
    assert prices.of("openai", "other", "no-such-model") is None
    assert Prices([own], "EUR").of("openai", "other", "gpt-4o-mini") is None


def checked(route: Route, *prices: Price) -> list[str]:
    found = Prices(prices).of_routes([route], [Provider(name="p", url="http://x")])
    return price_list.check([route], found)


def test_a_model_without_a_price_is_named() -> None:
    route = Route(name="r", providers=["p/strange"])
    [why] = checked(route)
    assert "p/strange" in why
    assert "[[prices]]" in why
    local = route.model_copy(update={"local_only": True})
    assert checked(local) == []


@pytest.mark.parametrize(
    ("fields", "enough"),
    [
        ({"input": 1, "output": 1}, True),
        ({"input": 1}, True),
        ({"output": 1}, False),
        ({"image": 1}, True),
        ({"images": {"low/1024x1024": 1}}, True),
        ({"minute": 1}, True),
        ({"characters": 1}, True),
        ({}, False),
    ],
)
def test_a_price_is_enough_if_some_endpoint_can_be_billed(
    fields: dict[str, Any], enough: bool
) -> None:
    route = Route(name="r", providers=["p/m"])
    faults = checked(route, Price(provider="p", model="m", **fields))
    assert bool(faults) == (not enough)
    assert all("not enough for any endpoint" in fault for fault in faults)
