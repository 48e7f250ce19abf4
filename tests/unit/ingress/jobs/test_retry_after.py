from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingress.jobs.retry_after import LONGEST, UNKNOWN, WINDOW, DrainRate


def rate_of(requests: int) -> DrainRate:
    rate = DrainRate()
    rate.open["m"] = requests
    return rate


def test_nothing_is_known_before_two_answers() -> None:
    rate = rate_of(100)
    assert rate.wait("m", 1000, 0.0) == UNKNOWN
    rate.ends["m"].append(0.0)
    assert rate.wait("m", 1000, 1.0) == UNKNOWN


def test_a_queue_drains_as_fast_as_the_last_answers_came() -> None:
    rate = rate_of(100)
    for second in range(11):
        rate.ends["m"].append(second * 0.5)
    assert rate.wait("m", 1000, 5.0) == 50.0
    assert rate.wait("m", 10, 5.0) == 5.0, "what is more is being refused"
    assert rate.wait("other", 1000, 5.0) == UNKNOWN


def test_only_the_last_answers_count() -> None:
    rate = rate_of(100)
    for second in range(WINDOW):
        rate.ends["m"].append(second)
    for second in range(WINDOW):
        rate.ends["m"].append(100 + second * 0.125)
    assert rate.wait("m", 1000, 100 + (WINDOW - 1) * 0.125) == 12.5


def test_old_answers_say_nothing() -> None:
    rate = rate_of(10)
    rate.ends["m"].append(0.0)
    rate.ends["m"].append(1.0)
    assert rate.wait("m", 1000, LONGEST + 2) == UNKNOWN


@given(st.lists(st.floats(0, 1000), max_size=80), st.integers(1, 10**6), st.floats(0, 2000))
def test_it_is_always_a_sane_time(ends: list[float], requests: int, later: float) -> None:
    rate = rate_of(requests)
    now = 0.0
    for end in sorted(ends):
        rate.ends["m"].append(end)
        now = end
    assert 1.0 <= rate.wait("m", 1000, now + later) <= LONGEST
