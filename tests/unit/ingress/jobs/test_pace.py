from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.jobs.pace import WEIGHT, WINDOW, Pace


def test_of_a_queue_that_was_never_seen_the_engines_tell() -> None:
    assert Pace().each(0.5) == 0.5
    assert Pace().each(0.0) == 0.0


def test_without_engines_that_answered_the_queue_alone_tells() -> None:
    pace = Pace()
    pace.look(10.0, 100)
    assert pace.each(0.0) == 0.0
    pace.look(12.0, 104)
    assert pace.each(0.0) == 0.5


def test_what_the_engines_should_take_counts_as_some_jobs() -> None:
    pace = Pace()
    pace.look(0.0, 0)
    assert pace.each(0.5) == 0.5
    pace.look(10.0, 0)  # nothing came out: it is slower than that
    assert pace.each(0.5) == (10 + WEIGHT * 0.5) / WEIGHT


def test_a_queue_that_was_made_anew_is_counted_anew() -> None:
    pace = Pace()
    pace.look(0.0, 100)
    pace.look(1.0, 110)
    pace.look(2.0, 0)
    pace.look(3.0, 4)
    assert pace.each(0.0) == 0.25


def test_only_the_last_half_minute_counts() -> None:
    pace = Pace()
    for second in range(100):
        pace.look(float(second), second * 10 if second < 60 else 600 + (second - 60))
    assert pace.each(0.0) == pytest.approx(1.0, abs=0.01)


@given(each=st.floats(0.01, 10), expected=st.floats(0, 10), seconds=st.integers(1, int(WINDOW) - 1))
def test_it_is_between_what_was_expected_and_what_was_seen(
    each: float, expected: float, seconds: int
) -> None:
    pace = Pace()
    for second in range(seconds + 1):
        pace.look(float(second), int(second / each))
    given = int(seconds / each)
    seen = seconds / given if given else float("inf")
    found = pace.each(expected)
    if not given and not expected:
        assert found == 0.0
    else:
        low, high = sorted((seen, expected or seen))
        assert low * 0.999 <= found <= high * 1.001
