"""Two ingresses that keep one order, over a relay that a test can cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from ingress.jobs import peers
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.gossip import Answer, Standing
from ingress.jobs.order import Order
from ingress.jobs.peers import Peers
from ingress.jobs.ticket import Ticket
from ingress.models.routes import Plan
from schemas import frames, jobs, subjects
from schemas.frames import Op
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus, message
from tests.unit.ingress.jobs.recorder import Holder
from tests.unit.ingress.jobs.test_claims import worker

MODEL = "m"


class Side:
    """One ingress."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bus = FakeBus()
        self.dispatch = Dispatch(self.bus, name, Settings())
        made = self.dispatch
        self.peers = Peers(self.bus, name, made.queues, made.claims)
        self.stored = 0
        self.relayed = 0

    async def submit(self, tenant: str) -> Ticket:
        order = Order(Plan(MODEL, MODEL, 5, 30, 60), "/v1/x", True, b"{}", "x", tenant, "k")
        ticket = await self.dispatch.submit(order)
        self.stored += 1
        self.dispatch.answered(ticket, 0, b'{"seq":%d}' % self.stored)
        return ticket

    def claim(self, ticket: Ticket, holder: Holder) -> None:
        assert self.dispatch.claims.hear(ticket.job.id, holder.claim(), time.monotonic())

    def said(self, holder: Holder) -> list[frames.Control]:
        return [frames.unpack_control(sent) for sent in self.bus.to(f"c.{holder.name}")]


class Pair:
    def __init__(self) -> None:
        self.one, self.other = Side("in-1"), Side("in-2")
        self.cut = False

    async def relay(self) -> None:
        """Let each hear what the other has said since."""
        for _ in range(4):
            await fakes.turns()
            for side, to in ((self.one, self.other), (self.other, self.one)):
                said, side.relayed = side.bus.posts[side.relayed :], len(side.bus.posts)
                for post in said:
                    mine = post.subject == subjects.slots_for(to.name)
                    if not self.cut and (mine or post.subject.startswith("fq.")):
                        to.bus.deliver(message(subject=post.subject, data=post.payload))

    async def queued(self) -> tuple[list[Ticket], Ticket]:
        """Three greedy jobs at one, of which one runs, and a polite one at the other."""
        greedy = [await self.one.submit("g") for _ in range(3)]
        self.one.claim(greedy[0], worker(1))
        for _, _, queue in self.one.dispatch.queues:
            self.one.peers._say(queue)
        await self.relay()
        polite = await self.other.submit("p")
        await self.relay()
        return greedy, polite


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    for side in (made.one, made.other):
        await side.peers.open()
        assert side.peers._beating is not None
        side.peers._beating.cancel()  # the tests say when
    yield made
    for side in (made.one, made.other):
        side.peers.close()


async def test_a_slot_is_for_whose_turn_it_is_wherever_that_one_waits(pair: Pair) -> None:
    greedy, polite = await pair.queued()
    holder = worker(2)
    pair.one.claim(greedy[1], holder)
    assert pair.one.said(holder) == [], "it is offered"
    await pair.relay()
    (given,) = pair.other.said(holder)
    assert (given.op, jobs.unpack(given.given)) == (Op.GIVE, polite.job)
    assert polite.holder is not None
    assert polite.postings.newest.unsent
    assert pair.other.bus.api_calls[0][1]["seq"] == 1, "its own message is not needed any more"
    assert greedy[1].job.edition == 1, "its message has gone with the slot"
    assert greedy[1].holder is None
    pair.one.dispatch.answered(greedy[1], 1, b'{"seq":9}')
    pair.one.claim(greedy[2], worker(3))
    assert [control.op for control in pair.one.said(worker(3))] == [Op.GIVE], "to the oldest"


async def test_a_repeated_claim_is_answered_by_who_took_the_slot(pair: Pair) -> None:
    greedy, polite = await pair.queued()
    holder = worker(2)
    pair.one.claim(greedy[1], holder)
    pair.one.claim(greedy[1], holder)
    await pair.relay()
    pair.one.claim(greedy[1], holder)
    await pair.relay()
    given = pair.other.said(holder)
    assert [control.op for control in given] == [Op.GIVE] * 2
    assert {jobs.unpack(control.given).id for control in given} == {polite.job.id}
    assert pair.one.said(holder) == []


async def test_without_an_answer_the_slot_is_for_a_job_of_here(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PATIENCE", 0.0)
    greedy, _ = await pair.queued()
    pair.cut = True
    pair.one.claim(greedy[1], worker(2))
    await pair.one.bus.until(lambda _: bool(pair.one.said(worker(2))))
    assert [control.op for control in pair.one.said(worker(2))] == [Op.GO]
    pair.one.bus.deliver(message("fw.in-1", Answer(worker(2).nonce, True).pack()))
    assert greedy[1].holder is not None, "the claimant refuses a second answer"


async def test_who_has_no_earlier_job_any_more_refuses(pair: Pair) -> None:
    greedy, polite = await pair.queued()
    pair.other.dispatch.close(polite)
    pair.one.claim(greedy[1], worker(2))
    await pair.relay()
    assert [control.op for control in pair.one.said(worker(2))] == [Op.GO]


async def test_a_slot_that_is_lost_puts_the_job_back_into_the_stream(pair: Pair) -> None:
    greedy, polite = await pair.queued()
    holder = worker(2)
    pair.one.claim(greedy[1], holder)
    await pair.relay()
    polite.revoke("silent", time.monotonic())
    assert pair.other.bus.to(holder.ack) == [b"-NAK"], "where it comes again it is told: gone"
    sent = pair.other.bus.to(subjects.jobs(MODEL, "i", "p"))
    assert [jobs.unpack(job).edition for job in sent] == [0, 1]
    pair.other.dispatch.answered(polite, 1, b'{"seq":9}')
    again = worker(4)
    frame = again.claim()
    frame = frame._replace(body=(*frame.body[:5], 1, False))
    assert pair.other.dispatch.claims.hear(polite.job.id, frame, time.monotonic())
    assert [control.op for control in pair.other.said(again)] == [Op.GO]
    late = worker(2, delivered=2)
    pair.one.claim(greedy[1], late)
    assert [control.op for control in pair.one.said(late)][-1] == Op.GONE


async def test_a_tenant_has_one_share_whichever_way_it_came(pair: Pair) -> None:
    greedy, _ = await pair.queued()
    quick = worker(5)
    quick.begins = True
    pair.one.claim(greedy[2], quick)
    await pair.relay()
    finish = pair.one.dispatch.queues.of(MODEL, "i").finish("g")
    assert pair.other.dispatch.queues.of(MODEL, "i").finish("g") == finish
    assert finish == 2.0


async def test_the_whole_queue_is_that_of_all(pair: Pair) -> None:
    await pair.queued()
    assert pair.one.peers.open_elsewhere(MODEL, "i") == 1
    assert pair.other.peers.open_elsewhere(MODEL, "i") == 3
    assert pair.one.peers.open_elsewhere("other", "i") == 0
    assert pair.one.peers.open_elsewhere(MODEL, "b") == 0


async def test_alone_nothing_is_said_but_that_jobs_wait() -> None:
    side = Side("in-1")
    await side.peers.open()
    first, second = await side.submit("a"), await side.submit("b")
    side.claim(first, worker(1))
    await fakes.turns()
    fq = subjects.standing(MODEL, "i")
    assert side.bus.to(fq) == []
    await side.bus.until(lambda _: side.bus.to(fq))
    side.claim(second, worker(2))
    said = len(side.bus.to(fq))
    await asyncio.sleep(2 * peers.BEAT)
    assert len(side.bus.to(fq)) == said, "nobody waits"
    side.peers.close()


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", Standing("x", 0, float("nan"), "", 0.0, False, "", 0.0).pack()]
)
async def test_rubbish_does_no_harm(pair: Pair, data: bytes) -> None:
    for subject in (subjects.standing(MODEL, "i"), "fw.in-1"):
        pair.one.bus.deliver(message(subject, data))
    greedy, _ = await pair.queued()
    assert greedy[0].holder is not None


async def test_what_was_heard_long_ago_counts_for_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.queued()
    queue = pair.one.dispatch.queues.of(MODEL, "i")
    assert queue.elsewhere is not None
    monkeypatch.setattr(peers, "FRESH", 0.0)
    pair.one.peers._look_elsewhere((MODEL, "i"), time.monotonic())
    assert queue.elsewhere is None
    pair.one.peers._part()
    assert pair.one.dispatch.claims.others is None
    assert pair.one.dispatch.queues.elsewhere is None
