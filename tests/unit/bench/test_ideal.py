from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.ideal import Backend, ttft

FAST, SLOW = Backend(1, 0.01), Backend(1, 0.04)


def test_an_idle_fast_slot_takes_the_request() -> None:
    assert ttft([5.0], [32], [SLOW, FAST]) == [0.01]


def test_the_slow_backend_takes_what_finds_the_fast_one_busy() -> None:
    assert ttft([0.0, 0.0], [32, 32], [FAST, SLOW]) == [0.01, 0.04]


def test_the_queue_is_first_come_first_served() -> None:
    # The fast slot is free again after 0.32 s and 0.64 s, the slow one after 1.28 s.
    waits = ttft([0.0, 0.0, 0.1, 0.2], [32] * 4, [FAST, SLOW])
    assert waits == pytest.approx([0.01, 0.04, 0.22 + 0.01, 0.44 + 0.01])


def test_of_two_free_slots_the_fast_one_is_taken_however_long_the_other_was_free() -> None:
    # At 1.0 both are free, the slow one since the start.
    assert ttft([0.0, 1.0], [32, 32], [SLOW, FAST]) == [0.01, 0.01]


def test_slots_that_get_free_at_the_same_time_go_by_speed() -> None:
    # Both end at 0.4; the fast one must go to who waits first.
    waits = ttft([0.0, 0.0, 0.1, 0.1], [40, 10, 1, 1], [FAST, SLOW])
    assert waits == pytest.approx([0.01, 0.04, 0.3 + 0.01, 0.3 + 0.04])


def test_the_length_of_a_reply_is_its_own() -> None:
    assert ttft([0.0, 0.0, 0.0], [1, 10, 5], [FAST]) == pytest.approx([0.01, 0.02, 0.12])


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=50))
def test_one_slot_is_lindleys_recursion(requests: list[tuple[float, int]]) -> None:
    arrivals = list(itertools.accumulate(gap for gap, _ in requests))
    free, expected = 0.0, []
    for arrival, (_, tokens) in zip(arrivals, requests, strict=True):
        start = max(free, arrival)
        free = start + tokens * 0.01
        expected.append(start - arrival + 0.01)
    assert ttft(arrivals, [tokens for _, tokens in requests], [FAST]) == pytest.approx(expected)


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=80))
def test_a_further_slot_of_the_same_speed_never_makes_anybody_wait_longer(
    gaps: list[float],
) -> None:
    arrivals, tokens = list(itertools.accumulate(gaps)), [32] * len(gaps)
    few = ttft(arrivals, tokens, [Backend(2, 0.01)])
    more = ttft(arrivals, tokens, [Backend(3, 0.01)])
    assert all(b <= a + 1e-9 for a, b in zip(few, more, strict=True))


@pytest.mark.parametrize(
    ("arrivals", "tokens", "backends"),
    [
        ([1.0, 0.5], [1, 1], [FAST]),
        ([1.0], [1, 1], [FAST]),
        ([1.0], [1], [Backend(0, 0.01)]),
    ],
)
def test_what_makes_no_sense_is_refused(
    arrivals: list[float], tokens: list[int], backends: list[Backend]
) -> None:
    with pytest.raises(ValueError, match=r"arrivals|slot"):
        ttft(arrivals, tokens, backends)
