"""Who may have one more connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.http import descriptors
from ingress.http.connections import Connections
from schemas.errors import TooManyConnections


class One:
    """A connection that notes when it has to go."""

    def __init__(self, places: Connections, address: str = "10.0.0.1", busy: bool = False) -> None:
        self.closed = False
        self._idle = places.opened(self, address)
        if busy:
            self.busy()

    def busy(self) -> None:
        self._idle.pop(self, None)

    def idle(self) -> None:
        self._idle[self] = None

    def make_room(self) -> None:
        self.closed = True


def test_an_idle_one_makes_room_and_one_that_is_busy_does_not() -> None:
    places = Connections(3, 3)
    busy, oldest, newest = One(places, busy=True), One(places), One(places)
    oldest.busy()
    oldest.idle()
    last = One(places)
    assert [one.closed for one in (busy, oldest, newest, last)] == [False, False, True, False]
    oldest.busy()
    last.busy()
    with pytest.raises(TooManyConnections) as refusal:
        One(places)
    assert refusal.value.retry_after
    places.closed(busy)
    One(places)


def test_the_address_with_most_idle_ones_makes_room() -> None:
    places = Connections(4, 4)
    quiet = One(places, "10.0.0.1")
    many = [One(places, "10.0.0.2") for _ in range(3)]
    One(places, "10.0.0.3")
    assert (quiet.closed, [one.closed for one in many]) == (False, [True, False, False])


def test_an_address_has_its_share_and_a_network_of_ipv6_is_one() -> None:
    places = Connections(8)
    for last in range(4):
        One(places, f"2001:db8::{last}", busy=True)
    with pytest.raises(TooManyConnections, match="4 connections"):
        One(places, "2001:db8::ffff")
    One(places, "2001:db8:1::1")


def test_a_proxy_may_have_all() -> None:
    places = Connections(4, 1, ["10.0.0.0/8"])
    for _ in range(4):
        One(places, "10.1.2.3", busy=True)
    with pytest.raises(TooManyConnections, match="too many"):
        One(places, "10.1.2.3")


def test_what_is_not_known_changes_nothing() -> None:
    places = Connections(1)
    stranger = One(Connections(1))
    places.closed(stranger)
    One(places, "")


@given(st.lists(st.tuples(st.sampled_from("obic"), st.integers(0, 9)), max_size=60))
def test_there_are_never_more_than_there_is_room_for(acts: list[tuple[str, int]]) -> None:
    places, live = Connections(4, 2), list[One]()
    for act, number in acts:
        if act == "o":
            try:
                live.append(One(places, f"10.0.0.{number % 3}"))
            except TooManyConnections:
                assert len(live) >= 2
        elif live:
            one = live[number % len(live)]
            if act == "c":
                places.closed(one)
                live.remove(one)
            else:
                (one.busy if act == "b" else one.idle)()
        live = [one for one in live if not one.closed]
        assert len(live) == len(places._places) <= 4
        assert all(each.count <= 2 for each in places._addresses.values())
    for one in live:
        places.closed(one)
    assert not places._addresses


def test_the_limit_of_files_is_raised_as_far_as_it_can_be() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[0]), before[1]))
    try:
        found = descriptors.limit()
        assert found == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
