from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from ingress.jobs.dispatch import Dispatch
from ingress.jobs.order import Order
from ingress.jobs.placement import PATIENCE
from ingress.jobs.state import LOOK_EACH
from ingress.jobs.ticket import Ticket
from ingress.models.pins import Pin
from ingress.models.places import AWAY, SERVING, Place
from ingress.models.routes import Plan
from schemas import subjects
from schemas.errors import NoWorker
from schemas.settings import Settings
from tests.unit.fakes import FakeBus

ANY = Pin(labels=("gpu=4090",))
A, B = subjects.pinned("a"), subjects.pinned("b")


class House:
    """Two nodes that may have the jobs, and the dispatcher of their ingress."""

    def __init__(self, bus: FakeBus) -> None:
        self.found: dict[str, Place] = {}
        self.put("a", slots=2)
        self.put("b", slots=2)
        self.dispatch = Dispatch(bus, "in-1", Settings(), places=self.places)
        self.placement = self.dispatch.placement

    def put(self, node: str, state: str = SERVING, **more: Any) -> None:
        self.found[node] = Place(node, state, **more)

    def places(self, model: str, pin: Pin) -> Sequence[Place]:
        assert model == "m"
        return [each for each in self.found.values() if pin.allows(each.node, ("gpu=4090",))]

    async def submit(self, pin: Pin = ANY) -> Ticket:
        plan = Plan("m", "m", 1.0, 60.0, 60.0, pin=pin)
        return await self.dispatch.submit(
            Order(plan, "/v1/chat/completions", False, b"{}", "application/json", "acme", "k")
        )

    def better(self, ticket: Ticket, after: float) -> str:
        return self.placement.better(ticket, ANY, ticket.times.posted + after)


def opened(house: House, lane: str) -> int:
    return house.dispatch.queues.of("m", lane).open


@pytest.fixture
def house(bus: FakeBus) -> House:
    return House(bus)


async def test_a_job_for_one_node_goes_into_its_lane(house: House, bus: FakeBus) -> None:
    ticket = await house.submit(Pin("a"))
    assert (ticket.job.lane, ticket.terms.lane) == (A, A)
    assert bus.posts[-1].subject == subjects.jobs("m", A, "acme")
    assert opened(house, A) == 1


async def test_of_several_nodes_those_with_free_slots_are_filled(house: House) -> None:
    house.put("b", slots=2, busy=1)
    lanes = [(await house.submit()).job.lane for _ in range(5)]
    assert sorted(lanes[:3]) == [A, A, B]
    assert {A, B} == set(lanes[3:]) or lanes.count(A) == 3


async def test_one_that_serves_is_before_one_that_is_away(house: House) -> None:
    house.put("a", AWAY, absent=5.0)
    assert (await house.submit()).job.lane == B
    house.put("b", AWAY, absent=7.0)
    assert (await house.submit()).job.lane in {A, B}, "it may leave, so it waits for one of them"
    assert house.placement.absent("m", ANY) == 5.0
    assert "a: away, b: away" in house.placement.why("m", ANY)


async def test_without_any_it_cannot_be_placed(house: House) -> None:
    house.found.clear()
    with pytest.raises(NoWorker, match="No node that the request may go to"):
        await house.submit()
    assert house.placement.absent("m", ANY) == inf
    assert "any more" in house.placement.why("m", ANY)


async def test_a_job_that_is_not_taken_moves_to_a_node_that_is_free(house: House) -> None:
    house.put("b", slots=2, busy=2)
    ticket = await house.submit()
    assert ticket.job.lane == A
    house.put("a", slots=2, busy=2)
    house.put("b", slots=2, busy=0)
    assert house.better(ticket, PATIENCE / 2) == ""
    assert house.better(ticket, PATIENCE + LOOK_EACH) == B


async def test_it_stays_where_it_is_while_nobody_else_is_free(house: House) -> None:
    house.put("b", slots=2, busy=2)
    ticket = await house.submit()
    assert house.better(ticket, PATIENCE + 1) == ""


async def test_it_leaves_a_node_that_is_gone_at_once(house: House) -> None:
    house.put("b", slots=2, busy=2)
    ticket = await house.submit()
    house.put("a", AWAY)
    assert house.better(ticket, 0.0) == B
    house.found.clear()
    assert house.better(ticket, LOOK_EACH) == ""


async def test_a_job_of_one_node_is_never_moved(house: House) -> None:
    ticket = await house.submit(Pin("a"))
    house.put("a", AWAY)
    assert house.placement.better(ticket, Pin("a"), ticket.times.posted + 60) == ""


async def test_moved_it_is_published_anew_and_counts_there(house: House, bus: FakeBus) -> None:
    house.put("b", slots=2, busy=2)
    ticket = await house.submit()
    ticket.postings.stored(0, 17)
    house.dispatch.move(ticket, B, ticket.times.posted + 2)
    assert (ticket.job.lane, ticket.job.edition, ticket.terms.lane) == (B, 1, B)
    assert bus.posts[-1].subject == subjects.jobs("m", B, "acme")
    assert (opened(house, A), opened(house, B)) == (0, 1)
    assert [len(house.dispatch.queues.of("m", lane)) for lane in (A, B)] == [0, 1]
    house.dispatch.close(ticket)
    assert opened(house, B) == 0


async def test_nobody_else_is_expected_to_try_what_a_node_alone_may_have(bus: FakeBus) -> None:
    asked = []

    def workers(model: str, lane: str) -> set[str]:
        asked.append((model, lane))
        return {"a-1"}

    dispatch = Dispatch(bus, "in-1", Settings(), workers=workers, places=House(bus).places)
    plan = Plan("m", "m", 1.0, 60.0, 60.0, pin=Pin("a"))
    more = "/v1/chat/completions", False, b"{}", "application/json", "acme", "k"
    ticket = await dispatch.submit(Order(plan, *more))
    assert not dispatch.others(ticket.job, {"a-1"})
    assert asked == [("m", A)]


async def test_of_several_that_are_free_the_faster_gets_it(house: House) -> None:
    house.put("a", slots=4, rank=1)
    house.put("b", slots=2, busy=1, rank=0)
    assert (await house.submit()).job.lane == B
    house.put("b", slots=2, busy=2, rank=0)
    assert (await house.submit()).job.lane == A
