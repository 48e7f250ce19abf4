from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.policy import CloudRoutes, choose, due, micro, money
from schemas.settings import Route
from tests.unit import fakes


def route(*providers: str, **more: Any) -> Route:
    return Route(name="chat", model="echo", providers=list(providers), **more)


CHAT = route("a/x", "b/y", "c/z")


def test_a_route_is_found_by_the_name_that_was_asked_for() -> None:
    routes = CloudRoutes([CHAT, route("a/x", local_only=True).model_copy(update={"name": "kept"})])
    assert routes.of(fakes.job(asked="chat")) == CHAT
    assert routes.of(fakes.job()) is None, "the model's own name leads nowhere"
    assert routes.of(fakes.job(asked="kept")) is None
    assert routes.of(fakes.job(asked="chat", local=True)) is None
    assert routes.models() == ["echo"]
    assert routes.of(fakes.job(asked="openai/Chat", route="chat")) == CHAT
    assert routes.of(fakes.job(asked="chat", route="kept")) is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [(2999, False), (3000, True)],
)
def test_when_a_job_is_due(now: float, expected: bool) -> None:
    assert due(CHAT, fakes.job(), now) is expected


def test_without_a_route_it_never_is() -> None:
    assert not due(None, fakes.job(), 10**15)


def test_providers_are_kept_in_order_and_those_that_do_not_fit_say_why() -> None:
    worst: dict[tuple[str, str], int | str] = {
        ("a", "x"): 30,
        ("b", "y"): "has no chat",
        ("c", "z"): 20,
    }
    chosen = choose(CHAT, lambda *at: worst[at], 0)
    assert [each.provider for each in chosen.choices] == ["a", "c"]
    assert (chosen.dearest, chosen.why) == (30, "b: has no chat")
    assert [each.provider for each in chosen.within(25).choices] == ["c"]
    cheap = choose(CHAT, lambda *at: worst[at], 25)
    assert [each.provider for each in cheap.choices] == ["c"]
    assert "max_price allows 25" in cheap.why


def test_who_honours_more_hints_comes_first() -> None:
    chosen = choose(CHAT, lambda *_: 1, 0)
    ordered = chosen.ordered(lambda choice: {"a": 1, "b": 0, "c": 1}[choice.provider])
    assert [each.provider for each in ordered.choices] == ["b", "a", "c"]
    assert ordered.passed == chosen.passed


def test_a_model_may_have_slashes() -> None:
    chosen = choose(route("cf/@cf/baai/bge"), lambda provider, model: len(model), 0)
    assert (chosen.choices[0].provider, chosen.choices[0].model) == ("cf", "@cf/baai/bge")


@given(st.integers(-(10**15), 10**15))
def test_money_is_read_as_it_was_written(amount: int) -> None:
    text = money(amount, "USD")
    assert micro(Decimal(text.removesuffix(" USD"))) == amount


def test_the_limit_is_for_all_jobs_of_a_request() -> None:
    def worst(provider: str, _: str) -> int:
        return {"a": 10, "b": 20, "c": 30}[provider]

    chosen = choose(CHAT, worst, 60, jobs=3)
    assert [each.provider for each in chosen.choices] == ["a", "b"]
    assert chosen.passed == ("c: it may cost 90 micro-units, max_price allows 60",)
