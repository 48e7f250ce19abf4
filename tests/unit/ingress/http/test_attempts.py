from __future__ import annotations

import pytest

from ingress.http.attempts import ADDRESSES, FailedAttempts
from schemas.errors import TooManyAttempts
from tests.unit.fakes import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> FailedAttempts:
    return FailedAttempts(6, clock)


def spend(attempts: FailedAttempts, *addresses: str) -> None:
    """So many failures as are let through."""
    for _ in range(6 // len(addresses)):
        for address in addresses:
            attempts.failed(address)


def refused(attempts: FailedAttempts, address: str) -> float:
    """Seconds to wait; 0.0 if it is not refused."""
    try:
        attempts.failed(address)
    except TooManyAttempts as error:
        return error.retry_after or 0.0
    return 0.0


def test_an_address_that_fails_too_often_waits_as_long_as_it_is_told(
    attempts: FailedAttempts, clock: Clock
) -> None:
    spend(attempts, "10.0.0.1")
    wait = refused(attempts, "10.0.0.1")
    assert wait == pytest.approx(10.0)
    assert refused(attempts, "10.0.0.2") == 0.0
    clock.now += wait
    assert refused(attempts, "10.0.0.1") == 0.0
    assert refused(attempts, "10.0.0.1") == pytest.approx(10.0)


def test_a_right_key_is_not_told_apart_while_its_address_waits(
    attempts: FailedAttempts, clock: Clock
) -> None:
    attempts.passed("10.0.0.1", "known")
    spend(attempts, "10.0.0.1")
    assert ("10.0.0.1", "known") in attempts.guests
    with pytest.raises(TooManyAttempts):
        attempts.passed("10.0.0.1", "guessed")
    clock.now += 60
    attempts.passed("10.0.0.1", "guessed")


@pytest.mark.parametrize(
    ("addresses", "other"),
    [
        (("2001:db8::1", "2001:db8::ffff:2"), "2001:db8:0:1::1"),
        (("::ffff:10.0.0.1", "10.0.0.1"), "10.0.0.2"),
        (("fe80::1%eth0", "fe80::2"), "10.0.0.2"),
        (("no address", "no address"), "no other"),
    ],
)
def test_a_network_is_one_address(
    attempts: FailedAttempts, addresses: tuple[str, str], other: str
) -> None:
    spend(attempts, *addresses)
    assert all(refused(attempts, address) for address in addresses)
    assert refused(attempts, other) == 0.0


def test_what_is_remembered_has_a_bound(attempts: FailedAttempts) -> None:
    for number in range(ADDRESSES + 100):
        attempts.failed(f"10.0.{number >> 8}.{number & 255}")
    assert len(attempts._buckets) == ADDRESSES


def test_without_an_address_nothing_is_counted(attempts: FailedAttempts) -> None:
    spend(attempts, "", "")
    spend(attempts, "", "")
    attempts.passed("", "k")


def test_one_that_is_given_back_does_not_count(attempts: FailedAttempts) -> None:
    spend(attempts, "10.0.0.1")
    attempts.give_back("10.0.0.1")
    assert refused(attempts, "10.0.0.1") == 0.0
    assert refused(attempts, "10.0.0.1") == pytest.approx(10.0)
    attempts.give_back("10.0.0.2")
    spend(attempts, "10.0.0.2")
    assert refused(attempts, "10.0.0.2") == pytest.approx(10.0)
