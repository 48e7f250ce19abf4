"""Which job a claimed slot is for, over real tickets."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from ingress.jobs import state
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.order import Order
from ingress.jobs.ticket import Ticket
from ingress.models.locality import ANY, LOCAL
from ingress.models.routes import Plan
from schemas import frames, jobs
from schemas.frames import Claim, Control, Frame, Kind, Op
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.ingress.jobs.recorder import FallbackHolder, Holder

PLAN = Plan("m", "m", 5, 30, 60)


class ClaimsSetup:
    """Some jobs of several tenants, each stored by the broker, and their workers."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.dispatch = Dispatch(bus, "in-1", Settings())
        self.workers: set[str] = set()
        self.stored = 0

    async def submit(self, tenant: str, **terms: Any) -> Ticket:
        plan = replace(PLAN, reach=ANY if terms.pop("leaves", False) else LOCAL)
        body = f'{{"of":"{tenant}"}}'.encode()
        order = Order(plan, "/v1/x", True, body, "x", tenant, "k", **terms)
        ticket = await self.dispatch.submit(order)
        self.stored += 1
        self.dispatch.answered(ticket, 0, b'{"seq":%d}' % self.stored)
        return ticket

    def claim(self, ticket: Ticket, holder: Holder, edition: int = 0) -> Control | None:
        """The answer to a claim with the message that was published for `ticket`."""
        frame = holder.claim()
        frame = frame._replace(body=(*frame.body[:5], edition, holder.begins))
        before = len(self.bus.to(f"c.{holder.name}"))
        if not self.dispatch.claims.hear(ticket.job.id, frame, time.monotonic()):
            return None
        said = self.bus.to(f"c.{holder.name}")[before:]
        return frames.unpack_control(said[-1]) if said else None

    def given(self, ticket: Ticket, holder: Holder) -> str:
        """Of which tenant the job is that the holder has now."""
        answer = self.claim(ticket, holder)
        assert answer is not None
        assert answer.nonce == holder.nonce
        if answer.op == Op.GIVE:
            return jobs.unpack(answer.given).account
        assert answer.op == Op.GO
        return ticket.job.account


@pytest.fixture
def setup(bus: FakeBus) -> ClaimsSetup:
    return ClaimsSetup(bus)


def worker(number: int, delivered: int = 1) -> Holder:
    """Its claim does not say where the message is in the stream."""
    made = Holder(f"w.{number}", delivered, 100 * number + delivered)
    made.ack = fakes.ack(delivered, 0)
    return made


@pytest.mark.parametrize("edition", [0, 1])
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("kind", [Holder, FallbackHolder])
async def test_where_there_is_no_choice_a_ticket_answers_as_all_would(
    kind: type[Holder], begins: bool, edition: int
) -> None:
    answers = []
    for directly in (True, False):
        setup = ClaimsSetup(FakeBus())
        ticket, claims = await setup.submit("a", leaves=True), setup.dispatch.claims
        assert setup.dispatch.choiceless
        for number in (1, 1, 2):  # one of them twice
            holder = kind(f"w.{number}", 1, 100 + number, edition)
            holder.begins = begins
            frame, now = holder.claim(), time.monotonic()
            if directly:
                ticket.claimed(Claim.of(frame.body), frame.attempt, frame.nonce, now)
            else:
                assert claims.hear(ticket.job.id, frame, now)
        said = [post for post in setup.bus.posts if post.subject.startswith("c.")]
        ops = [(post.subject, frames.unpack_control(post.payload).op) for post in said]
        answers.append((ops, ticket.node))
    assert answers[0] == answers[1]
    assert answers[0][0]


async def test_with_a_choice_all_are_asked(setup: ClaimsSetup) -> None:
    claims, first = setup.dispatch.claims, await setup.submit("a")
    assert setup.dispatch.choiceless
    second = await setup.submit("b")
    assert not setup.dispatch.choiceless
    setup.dispatch.close(second)
    assert setup.dispatch.choiceless
    claims.moved[first.job.id]
    assert not setup.dispatch.choiceless


async def test_alone_a_job_is_answered_as_ever(setup: ClaimsSetup) -> None:
    ticket = await setup.submit("a")
    assert setup.claim(ticket, worker(1)) == (Op.GO, ticket.job.id, worker(1).nonce, 0, b"")
    assert ticket.postings.newest.message == (ticket.job.id, 0)


async def test_a_slot_that_is_claimed_for_one_tenant_is_for_the_first_in_the_order(
    setup: ClaimsSetup,
) -> None:
    greedy = [await setup.submit("g") for _ in range(4)]
    for number in range(2):
        assert setup.given(greedy[number], worker(number + 1)) == "g"
    polite = await setup.submit("p")
    holder = worker(3)
    answer = setup.claim(greedy[2], holder)
    assert answer is not None
    assert (answer.op, jobs.unpack(answer.given)) == (Op.GIVE, polite.job)
    assert polite.holder is not None
    assert polite.holder.claim.ack == holder.ack
    assert (polite.postings.newest.sequence, greedy[2].postings.newest.sequence) == (3, 5)
    assert setup.given(greedy[3], worker(4)) == "g", "the oldest, by the message of the next"
    assert greedy[2].holder is not None
    assert setup.given(polite, worker(5)) == "g", "by the message that was the polite one's"
    assert all(ticket.holder for ticket in greedy)


async def test_a_repeated_claim_is_answered_as_the_first_one(setup: ClaimsSetup) -> None:
    greedy = [await setup.submit("g") for _ in range(2)]
    setup.given(greedy[0], worker(1))
    polite = await setup.submit("p")
    first, again = setup.claim(greedy[1], worker(2)), setup.claim(greedy[1], worker(2))
    assert first == again
    assert first is not None
    assert jobs.unpack(first.given) == polite.job
    assert setup.claim(polite, worker(2), polite.job.edition) == (
        Op.GO, polite.job.id, worker(2).nonce, 0, b"",
    ), "who knows its job is told no more"  # fmt: skip


async def test_a_worker_that_has_begun_keeps_its_job(setup: ClaimsSetup) -> None:
    greedy = [await setup.submit("g") for _ in range(2)]
    setup.given(greedy[0], worker(1))
    await setup.submit("p")
    quick = worker(2)
    quick.begins = True
    assert setup.given(greedy[1], quick) == "g"


async def test_who_has_begun_a_job_that_another_has_the_slot_for_lets_go(
    setup: ClaimsSetup,
) -> None:
    """It must not go on under the other's name: its engine has the text of the wrong tenant."""
    greedy = [await setup.submit("g") for _ in range(3)]
    setup.given(greedy[0], worker(1))
    polite = await setup.submit("p")
    setup.given(greedy[1], worker(2))  # the polite one's; its own message is greedy's now
    quick = worker(3)
    quick.begins = True
    answer = setup.claim(polite, quick)
    assert answer is not None
    assert answer.op == Op.LEAVE
    assert setup.given(polite, worker(4, delivered=2)) == "g"


async def test_what_was_published_anew_is_told_from_what_was_exchanged(setup: ClaimsSetup) -> None:
    """Both are the first editions after the first: the number alone does not tell."""
    first, second = await setup.submit("a"), await setup.submit("b")
    assert first.vanished(1, time.monotonic())
    setup.dispatch.answered(first, 1, b'{"seq":3}')
    assert setup.given(second, worker(1)) == "a"
    assert second.postings.newest.message == (first.job.id, 1)
    assert second.job.edition == 1
    answer = setup.claim(first, worker(2), edition=1)
    assert answer is not None
    assert (answer.op, jobs.unpack(answer.given)) == (Op.GIVE, second.job)


async def test_a_lost_job_is_first_and_keeps_its_place_in_its_tenant(setup: ClaimsSetup) -> None:
    greedy = [await setup.submit("g") for _ in range(4)]
    assert setup.given(greedy[0], worker(1)) == "g"
    polite = await setup.submit("p")
    setup.given(greedy[1], worker(2))
    assert polite.holder is not None
    polite.revoke("silent", time.monotonic())
    assert setup.bus.to(worker(2).ack) == [b"-NAK"], "the message that it was given"
    assert setup.given(greedy[2], worker(3)) == "p"
    assert setup.given(greedy[1], worker(4, delivered=2)) == "g"
    assert greedy[1].holder is not None


async def test_what_comes_again_while_its_job_runs_is_dropped(setup: ClaimsSetup) -> None:
    greedy = [await setup.submit("g") for _ in range(2)]
    setup.given(greedy[0], worker(1))
    polite = await setup.submit("p")
    setup.given(greedy[1], worker(2))
    assert polite.holder is not None
    answer = setup.claim(greedy[1], worker(3, delivered=2))
    assert answer is not None
    assert answer.op == Op.DROP


async def test_what_comes_again_after_its_job_has_ended_is_gone(setup: ClaimsSetup) -> None:
    greedy = [await setup.submit("g") for _ in range(2)]
    setup.given(greedy[0], worker(1))
    polite = await setup.submit("p")
    setup.given(greedy[1], worker(2))
    setup.dispatch.close(polite)
    answer = setup.claim(greedy[1], worker(3, delivered=2))
    assert answer is not None
    assert answer.op == Op.GONE, "greedy has the other message now"
    assert setup.given(polite, worker(4)) == "g"
    for ticket in greedy:
        setup.dispatch.close(ticket)
    assert setup.claim(polite, worker(5, delivered=2)) is None
    assert (setup.dispatch.claims._owners, dict(setup.dispatch.claims.moved)) == ({}, {})


async def test_a_client_that_leaves_takes_the_message_that_is_its_jobs_now(
    setup: ClaimsSetup,
) -> None:
    greedy = [await setup.submit("g") for _ in range(2)]
    setup.given(greedy[0], worker(1))
    await setup.submit("p")
    setup.given(greedy[1], worker(2))
    setup.dispatch.close(greedy[1])
    await fakes.turns()
    assert setup.bus.api_calls == [("STREAM.MSG.DELETE.JOBS", {"seq": 3, "no_erase": True})]


async def test_the_brokers_answer_to_a_publish_is_for_who_has_the_message(
    setup: ClaimsSetup,
) -> None:
    """It may come again, as what is not confirmed in time is published again."""
    greedy = [await setup.submit("g") for _ in range(2)]
    setup.given(greedy[0], worker(1))
    polite = await setup.submit("p")
    setup.given(greedy[1], worker(2))
    ticket, edition = setup.dispatch.claims.find(polite.job.id, 0)
    assert ticket is greedy[1]
    setup.dispatch.answered(ticket, edition, b'{"seq":3,"duplicate":true}')
    await fakes.turns()
    assert setup.bus.api_calls == []


async def test_what_the_broker_has_not_confirmed_has_no_message_to_exchange(
    setup: ClaimsSetup,
) -> None:
    greedy = [await setup.submit("g") for _ in range(2)]
    setup.given(greedy[0], worker(1))
    polite = await setup.submit("p")
    polite.postings.newest.sequence = 0
    assert setup.given(greedy[1], worker(2)) == "g"


async def test_a_provider_gets_what_has_waited_longest_of_those_that_may_leave(
    setup: ClaimsSetup,
) -> None:
    stays = await setup.submit("a")
    leaves = [await setup.submit("b", leaves=True) for _ in range(2)]
    for ticket in reversed(leaves):
        ticket.offer(time.monotonic())
    holder = FallbackHolder("f", 1)
    answer = setup.claim(stays, holder)
    assert answer is not None
    assert (answer.op, jobs.unpack(answer.given)) == (Op.GIVE, leaves[0].job)
    again = FallbackHolder("f", 1, nonce=7)
    assert setup.given(leaves[1], again) == "b"
    none = FallbackHolder("f", 1, nonce=8)
    answer = setup.claim(leaves[0], none)
    assert answer is not None
    assert answer.op == Op.LEAVE, "the message of the one that stays"


async def test_a_job_that_a_provider_had_keeps_its_message(setup: ClaimsSetup) -> None:
    """Its bookings are in the order of the messages."""
    first = await setup.submit("a", leaves=True)
    first.offer(time.monotonic())
    holder = FallbackHolder("f", 1)
    assert setup.given(first, holder) == "a"
    first.revoke("silent", time.monotonic())
    other = await setup.submit("b")
    assert setup.given(other, worker(1)) == "b"
    assert setup.given(first, worker(2, delivered=2)) == "a"


async def test_a_worker_that_lost_a_job_gets_another_as_long_as_others_may_take_it(
    bus: FakeBus,
) -> None:
    setup = ClaimsSetup(bus)
    setup.dispatch = Dispatch(bus, "in-1", Settings(), workers=lambda model, lane: {"w.1", "w.2"})
    first, second = await setup.submit("a"), await setup.submit("b")
    setup.given(first, worker(1))
    first.revoke("silent", time.monotonic())
    assert setup.given(first, worker(1, delivered=2)) == "b"
    assert setup.given(second, worker(2)) == "a"


async def test_a_job_whose_own_claim_is_on_its_way_is_left_to_it(setup: ClaimsSetup) -> None:
    """The broker gives messages out in order, and the worker may have begun it."""
    first, second = await setup.submit("a"), await setup.submit("a")
    late = worker(2)
    late.ack = fakes.ack(1, 2)
    assert second.postings.newest.sequence == 2
    answer = setup.claim(second, late)
    assert answer is not None
    assert answer.op == Op.GO, "and not the first one's job"
    quick = worker(1)
    quick.ack, quick.begins = fakes.ack(1, 1), True
    assert setup.given(first, quick) == "a"


async def test_a_job_that_nobody_claims_is_not_left_for_long(
    setup: ClaimsSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker stands still."""
    monkeypatch.setattr(state, "FLIGHT", 0.0)
    first, second = await setup.submit("a"), await setup.submit("a")
    late = worker(2)
    late.ack = fakes.ack(1, 2)
    answer = setup.claim(second, late)
    assert answer is not None
    assert (answer.op, jobs.unpack(answer.given).id) == (Op.GIVE, first.job.id)


async def test_shares_follow_the_weights(setup: ClaimsSetup) -> None:
    light = [await setup.submit("a", weight=1.0) for _ in range(40)]
    heavy = [await setup.submit("b", weight=3.0) for _ in range(40)]
    served = [
        setup.given(ticket, worker(number + 1)) for number, ticket in enumerate(light + heavy)
    ]
    assert served[:40].count("b") in (29, 30, 31)
    assert sorted(served) == ["a"] * 40 + ["b"] * 40


def test_a_began_claim_is_said_on_the_wire() -> None:
    holder = worker(1)
    holder.begins = True
    sent = holder.claim()
    assert frames.unpack(frames.pack(Kind.CLAIM, 1, holder.nonce, 0, sent.body)) == [
        Frame(Kind.CLAIM, 1, holder.nonce, 0, sent.body)
    ]
