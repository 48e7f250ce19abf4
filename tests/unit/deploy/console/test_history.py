"""The last hour, as the console keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.console.history import MOST_MODELS, OTHERS, POINTS, STEP, History, Spread

NOW = 1_000_000.0


def row(ago: float = 15.0, took: float = 2.0, **more: Any) -> dict[str, Any]:
    """A request that ended so many seconds before `NOW`."""
    return {"model": "m", "arrived": NOW - ago - took, "took": took, **more}


def test_a_point_has_what_ended_in_its_seconds() -> None:
    history = History()
    history.add(row(queued_for=0.5, ttft=1.0, completion_tokens=100, stream=True), NOW)
    last = history.points(NOW)[-2]
    assert last.at == NOW - 2 * STEP
    assert last.ended == 1
    assert last.rate == pytest.approx(10)
    assert last.ttft_p50 == pytest.approx(1.0, rel=0.06)
    assert last.wait_p95 == pytest.approx(0.5, rel=0.06)
    assert history.points(NOW)[-1].ended == 0
    assert history.points(NOW)[-1].ttft_p50 is None


def test_tokens_are_spread_over_the_time_of_the_answer() -> None:
    history = History()
    history.add(row(ago=0.001, took=30, ttft=10, completion_tokens=200, stream=True), NOW + 10)
    assert [point.rate for point in history.points(NOW + 10)[-3:]] == pytest.approx(
        [10, 10, 0], abs=0.01
    )


def test_wider_points_have_the_sums_of_narrow_ones() -> None:
    history = History()
    for ago in range(0, 3600, 7):
        history.add(row(ago=ago, took=0, completion_tokens=10), NOW)
    narrow, wide = history.points(NOW), history.points(NOW, of=6)
    assert (len(narrow), len(wide)) == (POINTS, POINTS // 6)
    assert sum(each.ended for each in narrow) == sum(each.ended for each in wide)
    assert sum(each.rate for each in narrow) == pytest.approx(6 * sum(each.rate for each in wide))


def test_an_hour_later_nothing_is_left() -> None:
    history = History()
    history.add(row(), NOW)
    assert history.models(NOW) == ["m"]
    assert history.models(NOW + 3600) == []
    assert sum(point.ended for point in history.points(NOW + 3600)) == 0


def test_what_is_older_than_an_hour_is_not_taken() -> None:
    history = History()
    history.add(row(ago=3700), NOW)
    assert sum(point.ended for point in history.points(NOW)) == 0


def test_many_models_become_one() -> None:
    history = History()
    for number in range(MOST_MODELS + 5):
        history.add(row(model=f"m{number}"), NOW)
    assert len(history.models(NOW)) == MOST_MODELS + 1
    assert sum(point.ended for point in history.points(NOW, OTHERS)) == 5
    assert sum(point.ended for point in history.points(NOW)) == MOST_MODELS + 5


@pytest.mark.parametrize(
    "odd",
    [{}, {"arrived": "x", "took": 1}, {"arrived": NOW, "took": float("nan")}, {"arrived": True}],
)
def test_an_odd_row_counts_nothing(odd: dict[str, Any]) -> None:
    history = History()
    history.add(odd, NOW)
    assert sum(point.ended for point in history.points(NOW + 20)) == 0


@given(st.lists(st.floats(0.001, 3600), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_near_the_true_one(times: list[float], of: float) -> None:
    spread = Spread()
    for seconds in times:
        spread.add(seconds)
    found = spread.quantile(of)
    assert found is not None
    assert any(abs(found - each) <= 0.06 * each for each in times)


@given(
    began=st.floats(0, 4000),
    took=st.floats(0, 4000),
    ttft=st.none() | st.floats(0, 4000),
    tokens=st.integers(0, 10_000),
)
def test_no_token_is_made_up(began: float, took: float, ttft: float | None, tokens: int) -> None:
    history = History()
    said = {"arrived": NOW - began, "took": took, "ttft": ttft, "stream": True}
    history.add({**said, "model": "m", "completion_tokens": tokens}, NOW)
    later = NOW + STEP  # the step of now is over then
    found = sum(point.rate for point in history.points(later)) * STEP
    assert found <= tokens * 1.000001 + 1e-6
