from __future__ import annotations

import orjson
import pytest

from ingress.jobs.dispatch import Dispatch
from ingress.jobs.order import Order
from ingress.jobs.overflow import ASK_LATER, WANT_AGAIN, Overflow
from ingress.jobs.state import NOBODY, Resumers
from ingress.jobs.ticket import Ticket
from ingress.models.catalog import Catalog
from ingress.models.locality import ANY, CLOUD, LOCAL
from ingress.models.pins import Pin
from ingress.models.routes import Plan
from schemas import errors, jobs, subjects
from schemas.api import endpoints, sse
from schemas.frames import Role
from schemas.nodes import ServedModel, resuming
from schemas.settings import Settings
from tests.unit.fakes import FakeBus, card
from tests.unit.ingress.jobs.recorder import FallbackHolder, Holder

CHAT = endpoints.CHAT.path
BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
A = Holder("a", 1)
FB = FallbackHolder("fb", 1)


class OverflowSetup:
    """A job that may leave the house, at a time that a test sets."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.now = 1000.0
        self.catalog = Catalog(lambda: self.now)
        self.dispatch = Dispatch(bus, "in-1", Settings())
        self.overflow = Overflow(bus, self.catalog)

    def fallback(self, *features: str) -> None:
        served = ServedModel("m", "p", "provider", 4, features=features)
        self.catalog.hear(card("fb-1", models=(served,), role=Role.FALLBACK))

    async def submit(
        self,
        reach: str = ANY,
        hedge: float = 0.0,
        path: str = "/v1/x",
        resumers: Resumers = NOBODY,
        body: bytes = BODY,
    ) -> Ticket:
        plan = Plan("m", "m", 2.0, 30.0, 60.0, reach, True, hedge)
        order = Order(plan, path, True, body, "x", "a", "k", False, resumers)
        if resumers.exist:
            order.outline = endpoints.APIS[path].outline(orjson.loads(body))
        ticket = await self.dispatch.submit(order)
        ticket.times.freed = ticket.times.queued = self.now
        ticket.postings.stored(0, 9)
        return ticket

    def waits(self, ticket: Ticket, waited: float) -> bool:
        return self.overflow.waiting(ticket, waited, self.now + waited)

    def decline(self, ticket: Ticket) -> None:
        ticket.frame(FB.claim(), self.now)
        ticket.frame(FB.fail(0, "insufficient_credits"), self.now)

    @property
    def wants(self) -> list[bytes]:
        return self.bus.to(subjects.want("m"))

    def published(self) -> list[jobs.Job]:
        return [jobs.unpack(p.payload) for p in self.bus.posts if p.subject.startswith("jobs.")]


@pytest.fixture
def setup(bus: FakeBus) -> OverflowSetup:
    return OverflowSetup(bus)


async def test_a_fallback_is_woken_when_the_claim_deadline_is_over(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await setup.submit()
    assert setup.waits(ticket, 2.0)
    assert (setup.wants, ticket.wanted) == ([], False)
    assert setup.waits(ticket, 2.1)
    assert setup.wants == [ticket.job.id.encode()]
    assert ticket.wanted


async def test_it_is_woken_again_each_second(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await setup.submit()
    for after in (2.1, 2.1 + WANT_AGAIN * 0.9, 2.1 + WANT_AGAIN, 2.1 + WANT_AGAIN * 2):
        setup.waits(ticket, after)
    assert len(setup.wants) == 3


async def test_without_a_fallback_nothing_leaves(setup: OverflowSetup) -> None:
    ticket = await setup.submit()
    assert not setup.waits(ticket, 60)
    assert setup.wants == []


async def test_declined_it_is_offered_later_while_workers_may_take_it(setup: OverflowSetup) -> None:
    setup.fallback()
    setup.catalog.hear(card("w-1", "m"))
    ticket = await setup.submit()
    setup.waits(ticket, 3.0)
    setup.decline(ticket)
    setup.waits(ticket, 3.0 + ASK_LATER * 0.9)
    assert (len(setup.wants), ticket.done) == (1, False)
    setup.waits(ticket, 3.0 + ASK_LATER)
    assert len(setup.wants) == 2


async def test_declined_and_served_by_nobody_it_ends_with_the_reason(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await setup.submit()
    setup.waits(ticket, 2.1)
    setup.decline(ticket)
    setup.waits(ticket, 3.0)
    assert isinstance(ticket.received.error, errors.InsufficientCredits)


async def test_late_for_its_first_token_it_is_moved(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await setup.submit()
    ticket.frame(A.claim(), setup.now)
    assert setup.overflow.overdue_first(ticket, setup.now + 30)
    first, moved = setup.published()
    assert (first.lane, moved.lane, moved.id) == (subjects.INTERACTIVE, subjects.CLOUD, first.id)
    assert moved.first_by == moved.total_by
    assert [post.payload for post in setup.bus.posts if post.subject == A.ack] == [b"+TERM"]
    assert not setup.overflow.overdue_first(ticket, setup.now + 61), "once is enough"


async def test_what_a_provider_has_is_not_late(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await setup.submit()
    ticket.offer(setup.now)
    ticket.frame(FB.claim(), setup.now)
    assert setup.overflow.overdue_first(ticket, setup.now + 30)
    assert len(setup.published()) == 1


async def test_a_hedge_is_a_copy_beside_the_holder(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await setup.submit(hedge=0.5)
    ticket.frame(A.claim(), setup.now)
    setup.overflow.held(ticket, setup.now + 0.4)
    assert len(setup.published()) == 1
    setup.overflow.held(ticket, setup.now + 0.6)
    setup.overflow.held(ticket, setup.now + 0.7)
    assert [job.lane for job in setup.published()] == [subjects.INTERACTIVE, subjects.CLOUD]
    ticket.postings.stored(1, 12)
    assert (ticket.postings.newest.sequence, ticket.holder is not None) == (9, True)
    assert ticket.postings.copy is not None


async def test_a_worker_that_has_begun_is_not_hedged(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await setup.submit(hedge=0.5)
    for frame in (A.claim(), A.start(), A.data(1, b"x")):
        ticket.frame(frame, setup.now)
    setup.overflow.held(ticket, setup.now + 60)
    assert len(setup.published()) == 1


@pytest.mark.parametrize("reach", [ANY, CLOUD])
async def test_what_a_provider_has_is_not_hedged(setup: OverflowSetup, reach: str) -> None:
    """A second fallback would take the copy, and its reservation count before the first one's."""
    setup.fallback()
    ticket = await setup.submit(reach, hedge=0.5)
    ticket.offer(setup.now)
    ticket.frame(FB.claim(), setup.now)
    setup.overflow.held(ticket, setup.now + 60)
    assert len(setup.published()) == 1


async def test_for_providers_alone_there_must_be_one(setup: OverflowSetup) -> None:
    ticket = await setup.submit(CLOUD)
    assert setup.waits(ticket, 1.9)
    assert not ticket.done
    setup.now += 2.1
    assert setup.waits(ticket, 2.1)
    assert isinstance(ticket.received.error, errors.NoWorker)
    assert "no fallback runs" in ticket.received.error.message


@pytest.mark.parametrize("provided", [True, False])
async def test_past_its_tries_it_goes_out_or_ends(setup: OverflowSetup, provided: bool) -> None:
    setup.fallback()
    ticket = await setup.submit()
    for number in (1, 2, 3):
        ticket.frame(Holder("w", number).claim(), setup.now)
        ticket.frame(Holder("w", number).fail(0), setup.now)
    if not provided:
        setup.catalog.forget("fb-1")
    assert setup.waits(ticket, 0.1) == provided
    if provided:
        assert setup.published()[-1].lane == subjects.CLOUD
    else:
        assert ticket.received.error is ticket.exhausted


# Streams that broke


async def _broken(
    setup: OverflowSetup, workers: bool = False, field: str = "content", body: bytes = BODY
) -> Ticket:
    """`workers`: they may continue it, too, and its thoughts. `field`: where its words stand."""
    ticket = await setup.submit(path=CHAT, resumers=Resumers(workers, True, workers), body=body)
    ticket.frame(A.claim(), setup.now)
    ticket.frame(A.start(), setup.now)
    text = sse.dump({"id": "c", "choices": [{"index": 0, "delta": {field: "so far"}}]})
    ticket.frame(A.data(1, text), setup.now)
    assert ticket.received.take() == text
    ticket.revoke("disconnected", setup.now)
    assert ticket.received.resuming
    return ticket


async def test_a_stream_that_broke_goes_to_a_provider_that_continues(setup: OverflowSetup) -> None:
    setup.fallback("chat", resuming(CHAT))
    ticket = await _broken(setup)
    assert setup.waits(ticket, 0.1)
    [_, moved] = setup.published()
    assert (moved.lane, moved.begun) == (subjects.CLOUD, (1, "so far", ""))


async def test_one_that_only_others_provide_ends_as_it_broke(setup: OverflowSetup) -> None:
    setup.fallback()
    ticket = await _broken(setup)
    assert not setup.waits(ticket, 0.1)
    assert isinstance(ticket.received.error, errors.StreamInterrupted)
    assert len(setup.published()) == 1


async def test_one_whose_provider_left_meanwhile_ends_as_it_broke(setup: OverflowSetup) -> None:
    setup.fallback("chat", resuming(CHAT))
    ticket = await _broken(setup)
    assert setup.waits(ticket, 0.1)
    setup.catalog.forget("fb-1")
    setup.waits(ticket, 2.5)
    assert isinstance(ticket.received.error, errors.StreamInterrupted)


async def test_one_that_workers_may_continue_waits_for_them_first(setup: OverflowSetup) -> None:
    setup.fallback("chat", resuming(CHAT))
    ticket = await _broken(setup, workers=True)
    assert setup.waits(ticket, 2.0)
    assert [(job.lane, job.begun) for job in setup.published()[1:]] == [
        (subjects.INTERACTIVE, (1, "so far", ""))
    ]
    assert setup.waits(ticket, 2.1)
    assert setup.published()[-1].lane == subjects.CLOUD
    assert setup.wants == []


async def test_a_provider_gets_no_begun_thoughts(setup: OverflowSetup) -> None:
    """It begins anew, if no worker comes that goes on from them."""
    setup.fallback("chat", resuming(CHAT))
    ticket = await _broken(setup, workers=True, field="reasoning_content")
    assert setup.published()[-1].begun == (1, "", "so far")
    assert setup.waits(ticket, 2.1)
    moved = setup.published()[-1]
    assert (moved.lane, moved.begun) == (subjects.CLOUD, (0, "", ""))


async def test_thoughts_that_the_client_sees_wait_for_a_worker(setup: OverflowSetup) -> None:
    setup.fallback("chat", resuming(CHAT))
    asked = BODY[:-1] + b',"think":true}'
    ticket = await _broken(setup, workers=True, field="reasoning_content", body=asked)
    assert not setup.waits(ticket, 2.1)
    assert [job.lane for job in setup.published()] == [subjects.INTERACTIVE] * 2


async def test_a_pinned_job_that_may_leave_is_moved(bus: FakeBus) -> None:
    """Fallbacks do not look into lanes of nodes."""
    setup = OverflowSetup(bus)
    setup.dispatch = Dispatch(bus, "in-1", Settings(), places=setup.catalog.nodes.places)
    setup.catalog.hear(card("w.1", "m", node="w"))
    setup.fallback()
    plan = Plan("m", "m", 2.0, 30.0, 60.0, ANY, pin=Pin("w"))
    ticket = await setup.dispatch.submit(Order(plan, "/v1/x", True, BODY, "x", "a", "k"))
    ticket.times.freed = ticket.times.queued = setup.now
    assert (ticket.job.lane, setup.waits(ticket, 2.0)) == ("n-w", True)
    assert setup.waits(ticket, 2.1)
    assert (ticket.job.lane, setup.wants) == (subjects.CLOUD, [])


async def test_a_pinned_job_that_may_not_leave_stays(bus: FakeBus) -> None:
    setup = OverflowSetup(bus)
    setup.dispatch = Dispatch(bus, "in-1", Settings(), places=setup.catalog.nodes.places)
    setup.catalog.hear(card("w.1", "m", node="w"))
    setup.fallback()
    plan = Plan("m", "m", 2.0, 30.0, 60.0, LOCAL, True, pin=Pin("w"))
    ticket = await setup.dispatch.submit(Order(plan, "/v1/x", True, BODY, "x", "a", "k"))
    assert not setup.waits(ticket, 20)
    assert ticket.job.local, "no fallback may have it"
