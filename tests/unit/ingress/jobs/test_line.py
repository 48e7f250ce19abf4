from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingress.jobs import line as lines
from ingress.jobs.fair import Queues
from ingress.jobs.line import Line
from ingress.jobs.ticket import Ticket
from schemas import metrics, subjects
from schemas.bus import BusError, NotFound
from schemas.waiting import unpack
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.ingress.jobs.recorder import START, Holder, RecordedEffects, ticket

A = Holder("a", 1)
_I, _B, _F = subjects.INTERACTIVE, subjects.BATCH, subjects.CLOUD
PATIENCE = 100.0
AFTER = 2.0
"""Seconds after which the line is looked at: all jobs came at once before."""


class LineSetup:
    """A model with a slot that takes half a second for a job, as far as its last answers tell."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.tickets: dict[str, Ticket] = {}
        self.workers = {"echo": {"a"}}
        self.pending: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.expected = 0.5
        self.queues = Queues()
        self.line = Line(
            bus,
            self.tickets,
            self.queues,
            lambda model, lane: self.workers.get(model, set()),
            lambda model, lane: self.expected,
            PATIENCE,
        )
        bus.api_answer = self.answer

    def answer(self, verb: str, body: Any) -> dict[str, Any]:
        lanes = _I, _B, subjects.pinned("box")
        lane = next(each for each in lanes if verb.endswith(subjects.consumer("echo", each)))
        delivered = {"consumer_seq": self.given.get(lane, 0)}
        return {"num_pending": self.pending.get(lane, 0), "delivered": delivered}

    def add(self, count: int = 1, lane: str = _I, account: str = "acme") -> list[str]:
        made = []
        for _ in range(count):
            one = ticket(RecordedEffects(), lane=lane)
            name = f"{len(self.tickets):032x}"
            one.postings.job = fakes.job(lane=lane, id=name, account=account)
            self.tickets[name] = one
            self.queues.enter(one.job, 1.0, START)
            if len(self.queues) > 1:
                self.line.note(one.job)
            made.append(name)
        return made

    def take(self, job: str) -> None:
        """A worker has the job."""
        ticket = self.tickets[job]
        ticket.frame(A.claim(), START)
        self.queues.served(ticket.job)

    def close(self, *jobs: str) -> None:
        for job in jobs:
            del self.tickets[job]
            self.queues.leave(job)

    async def look(self, after: float = AFTER) -> list[tuple[int, float | None]]:
        """The places and the seconds until they are served."""
        now = START + after
        await self.line.look(now)
        return [(place.position, place.eta(now)) for place in self.line.places.values()]


@pytest.fixture
async def setup(bus: FakeBus) -> LineSetup:
    return LineSetup(bus)


async def test_places_are_in_the_order_of_arrival(setup: LineSetup) -> None:
    setup.add(3)
    assert await setup.look() == [(1, 0.5), (2, 1.0), (3, 1.5)]


async def test_without_a_known_pace_there_is_no_eta(setup: LineSetup) -> None:
    setup.expected = 0.0
    setup.add(1)
    assert await setup.look() == [(1, None)]


async def test_who_is_served_or_has_gone_has_no_place(setup: LineSetup) -> None:
    held, gone, waits = setup.add(3)
    setup.take(held)
    setup.close(gone)
    assert await setup.look() == [(1, 0.5)]
    assert set(setup.line.places) == {waits}


async def test_of_what_is_for_providers_or_has_no_worker_there_is_no_queue(
    setup: LineSetup,
) -> None:
    setup.add(1, _F)
    assert await setup.look() == []
    setup.add(1)
    setup.workers.clear()
    assert await setup.look() == []
    assert setup.bus.api_calls == []


async def test_what_only_just_came_asks_nothing_of_the_broker(setup: LineSetup) -> None:
    setup.add(1)
    assert await setup.look(after=0.1) == [(1, 0.5)]
    assert setup.bus.api_calls == []
    await setup.look()
    assert len(setup.bus.api_calls) == 1


async def test_places_are_stretched_to_the_queue_of_all_ingresses(setup: LineSetup) -> None:
    setup.add(2)
    setup.pending[_I] = 10
    assert [position for position, _ in await setup.look()] == [5, 10]


async def test_the_batch_lane_is_behind_all_that_is_interactive(setup: LineSetup) -> None:
    setup.add(1, _B)
    setup.add(2)
    found = await setup.look()
    assert found == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert list(setup.line.places)[-1] == next(iter(setup.tickets))


async def test_a_batch_job_waits_no_longer_than_its_patience(setup: LineSetup) -> None:
    setup.expected = 30.0
    setup.add(5, _B)
    assert [eta for _, eta in await setup.look()] == [30.0, 60.0, 90.0, 98.0, 98.0]


async def test_the_pace_is_that_of_the_queue_once_it_is_seen(setup: LineSetup) -> None:
    setup.expected = 0.0
    setup.add(2)
    await setup.look()
    setup.given[_I] = 8
    assert await setup.look(AFTER + 2.0) == [(1, 0.25), (2, 0.5)]
    setup.close(*setup.tickets)
    await setup.look()
    setup.add(1)
    assert await setup.look() == [(1, None)], "forgotten, as nobody waited"


@pytest.mark.parametrize("fault", [BusError("away"), NotFound("CONSUMER.INFO", {"code": 404})])
async def test_a_broker_that_does_not_tell_leaves_the_own_order(
    setup: LineSetup, fault: BusError
) -> None:
    def away(verb: str, body: Any) -> dict[str, Any]:
        raise fault

    setup.bus.api_answer = away
    setup.add(2)
    assert [position for position, _ in await setup.look()] == [1, 2]


async def test_the_place_of_a_job_when_it_came_is_kept_as_long_as_its_request(
    setup: LineSetup,
) -> None:
    first, second, third = setup.add(3)
    (batch,) = setup.add(1, _B)
    (polite,) = setup.add(1, account="polite")
    assert setup.line.began == {second: 2, third: 3, batch: 4, polite: 1}
    setup.take(first)
    await setup.look()
    assert setup.line.began[second] == 2
    setup.close(second, third, batch)
    await setup.look()
    assert setup.line.began == {polite: 1}


async def test_places_are_in_the_fair_order(setup: LineSetup) -> None:
    greedy = setup.add(3)
    (polite,) = setup.add(1, account="polite")
    await setup.look()
    order = sorted(setup.line.places, key=lambda job: setup.line.places[job].position)
    assert order.index(polite) <= 1
    assert [job for job in order if job != polite] == greedy


async def test_it_looks_by_and_by(setup: LineSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "EACH", 0.0)
    setup.add(1)
    running = asyncio.create_task(setup.line.run())
    async with asyncio.timeout(fakes.PATIENCE):
        while not setup.line.places:
            await fakes.turns()
    running.cancel()


async def test_who_waits_is_told_by_account(setup: LineSetup) -> None:
    await setup.line.open("in-1")
    setup.add(2)
    setup.add(1, _B, account="polite")
    setup.bus.deliver(fakes.message(subjects.ASK_QUEUES, reply="_A.box"))
    (answer,) = setup.bus.to("_A.box")
    ingress, rows = unpack(answer)
    assert ingress == "in-1"
    assert [(row.model, row.lane, row.account, row.waiting) for row in rows] == [
        ("echo", _I, "acme", 2),
        ("echo", _B, "polite", 1),
    ]
    setup.bus.fault = BusError("away")
    setup.bus.deliver(fakes.message(subjects.ASK_QUEUES, reply="_A.box"))


async def test_the_metric_has_what_waits_and_falls_to_none(setup: LineSetup) -> None:
    def counted() -> float:
        return float(metrics.WAITING.labels("echo", "interactive")._value.get())

    setup.add(2)
    await setup.look()
    assert counted() == 2
    setup.close(*setup.tickets)
    await setup.look()
    assert counted() == 0


async def test_the_oldest_wait_is_that_of_who_came_first(setup: LineSetup) -> None:
    def oldest(lane: str) -> float:
        return float(metrics.OLDEST.labels("echo", lane)._value.get())

    first, *_ = setup.add(2)
    setup.add(1, _B)
    setup.tickets[first].times.queued = START - 3.0
    await setup.look(after=AFTER)
    assert (oldest("interactive"), oldest("batch")) == (AFTER + 3.0, AFTER)
    setup.take(first)
    await setup.look(after=AFTER)
    assert oldest("interactive") == AFTER
    setup.close(*setup.tickets)
    await setup.look()
    assert (oldest("interactive"), oldest("batch")) == (0, 0)


async def test_a_lane_of_a_node_has_places_of_its_own(setup: LineSetup) -> None:
    lane = subjects.pinned("box")
    setup.add(2)
    setup.add(2, lane)
    setup.pending[lane] = 4
    assert sorted(await setup.look()) == [(1, 0.5), (2, 1.0), (2, 1.0), (4, 2.0)]
    assert [(row.lane, row.waiting) for row in setup.line.waiting(START + 1)] == [
        ("i", 2),
        (lane, 2),
    ]
