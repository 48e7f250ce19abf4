from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fallback.cost import pricing
from fallback.cost.price_list import Prices
from fallback.cost.spent import Spent
from fallback.credits.entries import MICRO
from schemas.settings import Price

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
    assert pricing.worst_case(CHAT, request("x"), 0, free) == pricing.OUTPUT_TOKENS * 2


def test_every_prompt_of_a_list_is_answered() -> None:
    asked = {"prompt": ["a"] * 100, "max_tokens": 1000, "n": 2}
    free = price(input=0)
    assert pricing.worst_case("/v1/completions", asked, 0, free) == 100 * 1000 * 2 * 2
    assert pricing.worst_case(CHAT, {**request("x"), "prompt": ["a"] * 9}, 0, free) == 4096 * 2


def test_counting_tokens_is_free() -> None:
    assert pricing.worst_case("/v1/messages/count_tokens", request("x"), 0, price()) == 0
