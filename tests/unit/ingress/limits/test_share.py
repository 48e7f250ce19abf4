"""What one ingress may use, how it learns of the others, and what it writes."""

from __future__ import annotations

import pytest

from ingress.limits.reached import FULL_RECHECK, PLACE_RECHECK
from ingress.limits.share import GATHER, HOLD, LINGER, RENEW, STEPS, TTL
from ingress.limits.terms import Cost, Terms
from schemas import limits
from schemas.keys import Limits
from tests.unit.ingress.limits.world import WINDOW, Node, World

STEP = WINDOW // STEPS


def world(nodes: int = 1, doubt: int = 0, **wanted: int) -> World:
    return World(Limits(**wanted), nodes, doubt)


def asked(at: World, number: int, times: int, tokens: int = 1) -> int:
    return sum(at.ask(at.nodes[number], tokens) for _ in range(times))


def test_nothing_is_admitted_without_a_permit() -> None:
    at = world(requests=3)
    assert not at.admit(at.nodes[0], 1)


def test_all_of_a_limit_can_be_used_and_no_more() -> None:
    at = world(nodes=3, requests=5)
    assert [asked(at, number, 2) for number in (0, 1, 2)] == [2, 2, 1]
    at.pass_time(WINDOW - 1)
    assert asked(at, 0, 3) == 0


def test_a_refusal_says_when_there_is_room() -> None:
    at = world(nodes=2, requests=1)
    assert asked(at, 0, 1) == 1
    refusal = at.nodes[1].share.refusal(Cost(), at.moment(at.nodes[1]))
    assert refusal is None  # this one has not looked yet
    assert asked(at, 1, 1) == 0
    refusal = at.nodes[1].share.refusal(Cost(), at.moment(at.nodes[1]))
    assert refusal is not None
    assert refusal.limit == "requests"
    at.pass_time(refusal.after - 1)
    assert asked(at, 1, 1) == 0
    at.pass_time(FULL_RECHECK)
    assert asked(at, 1, 1) == 1


def test_a_lease_is_not_used_after_its_end() -> None:
    at = world(requests=100)
    at.look(node := at.nodes[0])
    at.propose(node, [1])
    at.store(node)
    at.hear(node)
    at.pass_time(HOLD + 1)
    assert not at.admit(node, 1)


def test_what_is_left_of_a_lease_is_given_back() -> None:
    at = world(nodes=2, requests=200)
    node = at.nodes[0]
    for _ in range(40):
        at.ask(node, 1)
    leased = limits.unpack(at.data).total("requests")
    assert leased > 40
    at.pass_time(HOLD + 2 * PLACE_RECHECK)
    assert node.share.due(at.moment(node)) == 0
    at.tick(node)
    assert limits.unpack(at.data).total("requests") == 40


def test_a_busy_ingress_asks_less_and_less_often() -> None:
    at = world(requests=100_000)
    calls = []
    for _ in range(10):
        before = at.calls
        assert asked(at, 0, 100) == 100
        at.pass_time(50)
        calls.append(at.calls - before)
    assert max(calls[4:]) <= 2


def test_what_a_request_did_not_use_is_free_for_others() -> None:
    at = world(nodes=2, tokens=100)
    assert asked(at, 0, 1, tokens=90) == 1
    assert asked(at, 1, 1, tokens=50) == 0
    at.finish(at.nodes[0], 0.1)
    at.pass_time(GATHER)
    at.tick(at.nodes[0])
    assert asked(at, 1, 1, tokens=50) == 1


def test_what_a_request_used_beyond_its_estimate_counts() -> None:
    at = world(nodes=2, tokens=100)
    assert asked(at, 0, 1, tokens=10) == 1
    at.finish(at.nodes[0], 9.0)
    at.pass_time(GATHER)
    at.tick(at.nodes[0])
    assert asked(at, 1, 1, tokens=50) == 0
    assert asked(at, 1, 1, tokens=10) == 1


def test_places_of_a_dead_ingress_are_free_in_time() -> None:
    at = world(nodes=2, concurrent=2)
    assert asked(at, 0, 2) == 2
    at.kill(0)
    assert asked(at, 1, 1) == 0
    at.pass_time(TTL)
    assert asked(at, 1, 1) == 0
    at.pass_time(PLACE_RECHECK)
    assert asked(at, 1, 2) == 2


def test_places_in_use_are_prolonged() -> None:
    at = world(nodes=2, concurrent=1)
    assert asked(at, 0, 1) == 1
    for _ in range(10):
        at.pass_time(RENEW)
        at.tick(at.nodes[0])
        assert asked(at, 1, 1) == 0


def test_a_free_place_is_given_back_at_once() -> None:
    at = world(nodes=2, concurrent=1)
    assert asked(at, 0, 1) == 1
    at.finish(at.nodes[0], 1.0)
    at.pass_time(LINGER)
    at.tick(at.nodes[0])
    assert asked(at, 1, 1) == 1
    assert at.nodes[0].share.due(at.moment(at.nodes[0])) is None


def test_a_month_is_over_when_its_sum_is_reached() -> None:
    at = world(nodes=2, monthly_tokens=100)
    assert asked(at, 0, 1, tokens=60) == 1
    at.finish(at.nodes[0], 1.0)
    assert asked(at, 0, 1, tokens=60) == 1
    at.finish(at.nodes[0], 1.0)
    at.pass_time(GATHER)
    at.tick(at.nodes[0])
    at.pass_time(1000)
    assert asked(at, 0, 1) == asked(at, 1, 1) == 0
    refusal = at.nodes[1].share.refusal(Cost(1), at.moment(at.nodes[1]))
    assert refusal is not None
    assert refusal.limit == "monthly_tokens"
    assert limits.unpack(at.data).tokens == 120


def test_another_queue_has_room() -> None:
    at = world(queued=1)
    node, now = at.nodes[0], at.moment(at.nodes[0])
    one, other = Cost(queue="queued:a"), Cost(queue="queued:b")
    for cost in (one, other):
        at.look(node)
        assert node.share.lacks(cost, now)
        record = node.share.propose([cost], now)
        assert record is not None
        node.share.written(record, now)
        node.share.take(cost, now)
    assert node.share.lacks(one, now)
    refusal = node.share.refusal(one, now)
    assert refusal is not None
    assert refusal.limit == "queued:a"
    assert node.share.reached.by(one, at.terms, now) is not None
    assert node.share.reached.by(Cost(queue="queued:c"), at.terms, now) is None


def test_limits_may_change() -> None:
    at = world(requests=1)
    assert asked(at, 0, 2) == 1
    at.nodes[0].share.change(Terms(Limits(requests=3)))
    assert asked(at, 0, 3) == 2


def test_a_write_that_was_taken_after_all_is_found() -> None:
    at = world(nodes=2, requests=2)
    node: Node = at.nodes[0]
    at.look(node)
    at.propose(node, [1])
    at.store(node)
    node.told = ""
    at.give_up(node)
    assert node.share.due(at.moment(node)) == GATHER
    at.pass_time(GATHER)
    assert asked(at, 0, 2) == 2  # the lease that nobody used is given back
    assert asked(at, 1, 1) == 0


def test_what_is_left_is_told_as_far_as_it_is_known_here() -> None:
    at = world(nodes=2, requests=5)
    assert asked(at, 0, 2) == 2
    at.pass_time(STEP)
    assert asked(at, 1, 1) == 1
    one, other = (node.share.remaining("requests", at.moment(node)) for node in at.nodes)
    assert (one[0], other[0]) == (3, 2)
    assert WINDOW - STEP <= one[1] <= WINDOW + STEP
    at.pass_time(WINDOW + HOLD + STEP)
    assert [node.share.remaining("requests", at.moment(node)) for node in at.nodes] == [(5, 0)] * 2


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("other", range(3))
def test_clocks_that_are_wrong_open_no_window_early(first: int, other: int) -> None:
    """Each may be wrong by as much as it thinks, early or late."""
    at = world(nodes=3, doubt=70, requests=1, tokens=100)
    begun = at.now
    assert asked(at, first, 1, tokens=50) == 1
    at.finish(at.nodes[first], 0.5)
    at.pass_time(GATHER)
    at.tick(at.nodes[first])  # the use itself stands in the record now, and not its lease
    while not asked(at, other, 1):
        at.nodes[other].share.reached.clear()  # it looks each time
        at.pass_time(5)
    assert WINDOW < at.now - begun <= WINDOW + 4 * 70 + STEP + 5
