from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingress.jobs.retry_after import ASKING, FRESH, LINE, LONGEST, UNKNOWN, WINDOW, RetryAfter

DEPTH = 20


def waits(slots: int = 4, took: float = 0.4, answers: int = WINDOW) -> RetryAfter:
    """Ten a second, if nothing else is said."""
    found = RetryAfter(lambda model, lane: slots if model == "m" else 0)
    found.took["m"].extend([took] * answers)
    return found


def test_without_an_answer_or_a_slot_nothing_is_known() -> None:
    assert waits(answers=0).refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0) == UNKNOWN
    assert waits(slots=0).refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0) == UNKNOWN
    assert waits().refuse("other", "i", depth=DEPTH, queued=DEPTH, now=0.0) == UNKNOWN


def test_one_answer_tells_the_pace_however_long_ago_it_was() -> None:
    assert (
        round(waits(answers=1).refuse("m", "i", depth=DEPTH, queued=DEPTH, now=10_000.0), 3) == 1.1
    )


def test_only_the_last_answers_count() -> None:
    found = waits(took=30.0)
    found.took["m"].extend([0.4] * WINDOW)
    assert round(found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0), 3) == 1.1


def test_those_who_come_as_they_were_told_find_room() -> None:
    """A hundred are refused at once by a full queue that drains ten a second."""
    found = waits()
    told = [found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0) for _ in range(100)]
    waiting, now = float(DEPTH), 0.0
    for turn in told:
        waiting, now = max(0.0, waiting - 10 * (turn - now)) + 1, turn
        assert 1 <= waiting <= DEPTH
    assert told == sorted(told)


def test_each_ingress_lets_in_its_share() -> None:
    """One that has a quarter of the queue has a quarter of its places to give."""
    found = waits()
    first, second = (
        found.refuse("m", "i", depth=DEPTH, queued=DEPTH // 4, now=0.0) for _ in range(2)
    )
    assert round(second - first, 3) == 0.4


def test_what_is_about_to_be_refused_is_no_part_of_the_queue() -> None:
    own = waits().refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0)
    assert waits().refuse("m", "i", depth=DEPTH, queued=100, now=0.0) == own


def test_turns_are_forgotten_once_the_queue_had_the_time_to_drain() -> None:
    found = waits()
    for _ in range(100):
        found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0)
    assert found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=1.9) > 9
    assert round(found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=4.0), 3) == 1.1


def test_a_queue_is_full_until_a_place_may_be_free() -> None:
    found = waits(took=0.08)  # a place each 20 ms
    assert not found.is_full("m", "i", "acme", 0.0)
    found.was_full("m", "i", "acme", 0.0)
    assert found.is_full("m", "i", "acme", 0.019)
    assert not found.is_full("m", "i", "acme", 0.021)
    assert found.is_full("m", "i", "acme", 0.03), "one has asked, and has no answer yet"
    found.freed("m", "i", "acme")
    assert not found.is_full("m", "i", "acme", 0.04)


def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    found = waits()
    found.was_full("m", "i", "acme", 0.0)
    assert not found.is_full("m", "i", "acme", 1.0)
    assert found.is_full("m", "i", "acme", 1.0 + ASKING - 0.01)
    assert not found.is_full("m", "i", "acme", 1.0 + ASKING)


def test_other_queues_are_not_full() -> None:
    found = waits()
    found.was_full("m", "i", "acme", 0.0)
    assert not found.is_full("other", "i", "acme", 0.0)
    assert not found.is_full("m", "f", "acme", 0.0)


def test_that_a_queue_is_full_is_not_believed_for_long() -> None:
    found = waits(took=100.0)
    found.was_full("m", "i", "acme", 0.0)
    assert found.is_full("m", "i", "acme", FRESH - 0.001)
    assert not found.is_full("m", "i", "acme", FRESH)


def test_a_queue_is_not_full_once_an_answer_has_ended() -> None:
    found = waits(took=100.0)
    found.was_full("m", "i", "acme", 0.0)
    found.freed("m", "i", "acme")
    assert not found.is_full("m", "i", "acme", 0.01)


def test_without_a_pace_the_broker_is_always_asked() -> None:
    found = waits(answers=0)
    found.was_full("m", "i", "acme", 0.0)
    assert not found.is_full("m", "i", "acme", 0.0)


def test_nobody_is_told_longer_than_clients_keep_to_unless_the_queue_takes_longer() -> None:
    found = waits()
    assert (
        max(found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0) for _ in range(5000)) == LINE
    )
    assert waits(took=40.0).refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0) == 100.0
    assert waits(took=4000.0).refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0) == LONGEST


def test_one_tenants_full_queue_is_not_anothers() -> None:
    found = waits(took=100.0)
    found.was_full("m", "i", "acme", 0.0)
    assert found.is_full("m", "i", "acme", 0.01)
    assert not found.is_full("m", "i", "polite", 0.01)


def test_who_gets_a_quarter_of_what_is_served_waits_four_times_as_long() -> None:
    found = waits()
    assert round(found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0), 3) == 1.1
    assert (
        round(
            found.refuse("m", "i", depth=DEPTH, queued=DEPTH, now=0.0, tenant="acme", part=0.25), 3
        )
        == 4.4
    )


@given(
    st.integers(0, 10**6),
    st.integers(1, 1000),
    st.floats(0.001, 10**4),
    st.lists(st.floats(0, 2000), min_size=1),
)
def test_it_is_always_a_sane_time(opened: int, slots: int, took: float, at: list[float]) -> None:
    found = waits(slots, took)
    told = [found.refuse("m", "i", depth=1000, queued=opened, now=now) for now in sorted(at)]
    assert all(1.0 <= each <= LONGEST for each in told)
