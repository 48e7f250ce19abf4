from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.cost import estimate, pricing
from fallback.cost.pricing import Prices, listed
from fallback.cost.spent import Spent
from fallback.credits.entries import MICRO
from fallback.providers.kinds import KINDS
from schemas.settings import Price, Provider, Route

AMOUNTS = st.integers(0, 10**9).map(lambda n: Decimal(n) / MICRO)
PRICES = st.builds(
    Price,
    provider=st.just("p"),
    model=st.just("m"),
    input=AMOUNTS,
    output=AMOUNTS,
    cached_input=st.none() | AMOUNTS,
    image=AMOUNTS,
    minute=AMOUNTS,
    characters=AMOUNTS,
)
COUNTS = st.integers(0, 10**7)
CHAT = "/v1/chat/completions"


def price(**changed: Any) -> Price:
    return Price(provider="p", model="m", **{"input": 1, "output": 2, **changed})


def used(**changed: Any) -> Spent:
    return Spent(**changed)


USAGES = st.builds(
    used,
    prompt=COUNTS,
    completion=st.integers(1, 10**7),  # none told would be by pictures and minutes
    cached=COUNTS,
    stored=COUNTS,
    images=st.integers(0, 10),
    seconds=st.floats(0, 10_000),
    characters=COUNTS,
)


def request(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_a_million_tokens_cost_the_price() -> None:
    usage = used(prompt=1_000_000, completion=500_000)
    assert pricing.cost(usage, price()) == 2 * MICRO
    assert pricing.cost(replace(usage, cached=1_000_000), price(cached_input="0.1")) == 1_100_000


def test_writing_to_a_cache_is_paid_beside() -> None:
    usage = used(prompt=1010, stored=1000)
    assert pricing.cost(usage, price()) == 1010 + 250
    assert pricing.cost(replace(usage, stored=4000), price()) == 1010 + 1000
    assert pricing.cost(replace(usage, stored=1), price()) == 1011


def test_a_picture_costs_what_its_tokens_do() -> None:
    """Told or not."""
    drawing = Prices().of("openai", "o", "gpt-image-1")
    assert drawing is not None
    for quality, tokens in {"low": 272, "medium": 1056, "high": 4160}.items():
        usage = used(images=1, quality=quality, size="1024x1024")
        told = replace(usage, completion=tokens)
        assert pricing.cost(told, drawing) == pricing.cost(usage, drawing) == 40 * tokens


def test_unfinished_pictures_are_reserved() -> None:
    drawing = Prices().of("openai", "o", "gpt-image-1")
    assert drawing is not None
    asked = {"prompt": "x", "size": "1024x1024", "quality": "low", "n": 2}
    more = {**asked, "stream": True, "partial_images": 3}
    plain = pricing.worst_case("/v1/images/generations", asked, 0, drawing)
    assert pricing.worst_case("/v1/images/generations", more, 0, drawing) >= plain + 2 * 3 * 4000


def test_the_largest_picture_for_gpt_4o_mini() -> None:
    """2048x768 has 8 tiles."""
    seeing = Prices().of("openai", "o", "gpt-4o-mini")
    assert seeing is not None
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    asked = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 1}
    assert pricing.worst_case(CHAT, asked, 0, seeing) >= (2833 + 8 * 5667) * 0.15


def test_it_is_rounded_up_once() -> None:
    cheap = price(input="0.000001", output="0.000001")
    assert pricing.cost(used(prompt=1, completion=1), cheap) == 1
    assert pricing.cost(used(), cheap) == 0


def test_a_minute_and_a_picture_and_characters() -> None:
    made = price(minute="0.006", image="0.04", characters=15)
    assert pricing.cost(used(seconds=90.0), made) == 9000
    assert pricing.cost(used(images=3), made) == 120_000
    assert pricing.cost(used(characters=8), made) == 120


def test_tokens_that_are_told_go_before_minutes_and_pictures() -> None:
    made = price(minute=6, image=4)
    assert pricing.cost(used(seconds=60.0, prompt=600, completion=100), made) == 800
    assert pricing.cost(used(seconds=60.0), made) == 6 * MICRO
    assert pricing.cost(used(images=1, prompt=600, completion=9_000_000), made) == 18_000_600
    assert pricing.cost(used(images=1, prompt=600, completion=100), made) == 4 * MICRO + 600
    assert pricing.cost(used(images=1, prompt=600), made) == 4 * MICRO + 600
    without = price(minute=6, output=None)
    assert pricing.cost(used(seconds=60.0, prompt=600, completion=100), without) == 6_000_600


@given(USAGES, PRICES, st.integers(0, 10**6))
def test_more_use_never_costs_less(usage: Spent, at: Price, more: int) -> None:
    cost = pricing.cost(usage, at)
    assert isinstance(cost, int)
    assert cost >= 0
    assert pricing.cost(replace(usage, completion=usage.completion + more), at) >= cost
    assert pricing.cost(replace(usage, characters=usage.characters + more), at) >= cost


@given(st.text(max_size=300), st.integers(1, 5000), st.integers(1, 4), PRICES)
def test_the_worst_case_is_one(text: str, limit: int, n: int, at: Price) -> None:
    """A token for each byte read, and as many written as is allowed."""
    asked = request(text, max_tokens=limit, n=n)
    read = len(text.encode("utf-8", "surrogatepass"))
    most = used(prompt=read, completion=limit * n)
    assert pricing.worst_case(CHAT, asked, 0, at) >= pricing.cost(most, at)


def test_without_a_limit_the_default_is_reserved() -> None:
    free = price(input=0)
    assert pricing.worst_case(CHAT, request("x"), 0, free) == estimate.OUTPUT_TOKENS * 2


def test_every_prompt_of_a_list_is_answered() -> None:
    asked = {"prompt": ["a"] * 100, "max_tokens": 1000, "n": 2}
    free = price(input=0)
    assert pricing.worst_case("/v1/completions", asked, 0, free) == 100 * 1000 * 2 * 2
    assert pricing.worst_case(CHAT, {**request("x"), "prompt": ["a"] * 9}, 0, free) == 4096 * 2


def test_counting_tokens_is_free() -> None:
    assert pricing.worst_case("/v1/messages/count_tokens", request("x"), 0, price()) == 0


def test_every_listed_price_is_dated_and_can_bill_something(subtests: pytest.Subtests) -> None:
    for at in listed().values():
        with subtests.test(f"{at!r:.60}"):
            assert at.date
            can = KINDS[at.provider].family(at.model).endpoints
            assert any(
                not pricing.missing(each, at) for each in can - {"/v1/messages/count_tokens"}
            )


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
    return pricing.check([route], found)


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
