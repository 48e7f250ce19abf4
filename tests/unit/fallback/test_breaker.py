from __future__ import annotations

from fallback.breaker import Breaker


def opened() -> Breaker:
    made = Breaker(failures=2, pause=10.0)
    for _ in range(2):
        made.failed(100.0, "down")
    return made


def test_failures_in_a_row_open_it() -> None:
    made = Breaker(failures=2, pause=10.0)
    made.failed(100.0, "down")
    assert (made.state(100.0), made.admit(100.0)) == ("closed", True)
    made.succeeded()
    made.failed(101.0, "down")
    assert made.admit(101.0), "they were not in a row"
    made.failed(102.0, "down")
    assert (made.state(102.0), made.admit(102.0), made.reason) == ("open", False, "down")
    assert made.ready_at(102.0) == 112.0


def test_half_open_lets_one_through() -> None:
    made = opened()
    assert made.state(110.0) == "half-open"
    assert (made.admit(110.0), made.admit(110.0)) == (True, False)
    made.succeeded()
    assert (made.state(110.0), made.admit(110.0), made.admit(110.0)) == ("closed", True, True)


def test_the_one_that_fails_opens_it_again() -> None:
    made = opened()
    assert made.admit(110.0)
    made.failed(111.0, "still down")
    assert (made.admit(112.0), made.ready_at(112.0)) == (False, 121.0)


def test_the_one_that_ends_without_a_verdict_is_followed_by_another() -> None:
    made = opened()
    assert made.admit(110.0)
    made.undecided()
    assert made.admit(110.0)


def test_one_that_said_when_to_come_back_is_left_alone_until_then() -> None:
    made = Breaker(failures=2, pause=10.0)
    made.busy(100.0, 3.0, "busy")
    assert (made.admit(102.9), made.admit(103.0)) == (False, True)
    assert made.state(103.0) == "closed"
    made.busy(104.0, None, "busy")
    assert made.admit(104.0)
    made.busy(104.0, None, "busy")
    assert not made.admit(104.0), "busy without saying until when is a failure"


def test_tripped_it_is_open_at_once() -> None:
    made = Breaker(failures=5, pause=1.0)
    made.trip(100.0, 60.0, "wrong key")
    assert (made.state(159.0), made.admit(159.0), made.admit(160.0)) == ("open", False, True)
