"""Where a job goes whose prompt is in a cache, over a real dispatcher and its tickets."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from ingress.jobs import affine, gossip
from ingress.jobs.affine import Trail
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.gossip import Learnt
from ingress.jobs.order import Order
from ingress.jobs.ticket import Ticket
from ingress.models.affinity import Place as Engine
from ingress.models.locality import ANY
from ingress.models.pins import Pin
from ingress.models.places import SERVING, Place
from ingress.models.routes import Plan
from schemas import frames, metrics, subjects
from schemas.frames import Op
from schemas.jobs import WANTED_ENGINE, WANTED_FOR, engine_of
from schemas.nodes import Card, EngineState, ServedModel
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus, message
from tests.unit.ingress.jobs.recorder import FallbackHolder, Holder

MODEL = "m"
A, B = subjects.pinned("a"), subjects.pinned("b")
ALL = subjects.INTERACTIVE
PLAN = Plan(MODEL, MODEL, 5, 30, 60)


def card(
    node: str, *, slots: int = 2, busy: int = 0, name: str = "e", prompt_us: int = 0, **changed: Any
) -> Card:
    engine = EngineState(name, "echo", "ready", slots, busy)
    served = ServedModel(MODEL, name, "echo", slots, 8192, prompt_us=prompt_us)
    return fakes.card(f"{node}.1", **{"engines": (engine,), "models": (served,), **changed})


def said(*words: str) -> list[Any]:
    return [{"role": "user", "content": f"{word} " * 500} for word in words]


class House:
    """An ingress with two workers."""

    def __init__(self, bus: FakeBus, name: str = "in-1", **edge: Any) -> None:
        self.bus = bus
        config = Settings.model_validate({"ingress": edge})
        self.dispatch = Dispatch(bus, name, config, places=self.places)
        self.affine = self.dispatch.affine
        self.stored = 0
        for node in "ab":
            self.affine.hear(card(node))

    def places(self, model: str, pin: Pin) -> list[Place]:
        return [Place(node, SERVING, 2) for node in "ab" if pin.allows(node, ())]

    def trail(self, *words: str) -> Trail | None:
        return self.affine.trail("/v1/chat/completions", {"messages": said(*words)}, MODEL)

    async def submit(self, *words: str, plan: Plan = PLAN, **more: Any) -> Ticket:
        body = b"x" * 4000
        order = Order(plan, "/v1/x", True, body, "x", more.pop("tenant", "t"), "k", **more)
        trail = self.trail(*words) if words else None
        order = Order(**{**{n: getattr(order, n) for n in Order.__slots__}, "trail": trail})
        ticket = await self.dispatch.submit(order)
        self.stored += 1
        self.dispatch.answered(ticket, 0, b'{"seq":%d}' % self.stored)
        return ticket

    def claim(self, ticket: Ticket, holder: Holder) -> None:
        holder.ack = fakes.ack(sequence=ticket.postings.newest.sequence)
        frame = holder.claim()
        body = (*frame.body[:5], ticket.job.edition, holder.begins)
        heard = self.dispatch.claims.hear(
            ticket.job.id, frame._replace(body=body), time.monotonic()
        )
        assert heard

    def answer(self, ticket: Ticket, holder: Holder, cached: int = 0, read: int = 1000) -> None:
        self.claim(ticket, holder)
        end = frames.End(read, 10, cached).body
        for frame in (holder.start(), holder.frame(frames.Kind.END, 1, end)):
            ticket.frame(frame, time.monotonic())
        self.dispatch.close(ticket)

    async def had(self, node: str, *words: str, **more: Any) -> None:
        """A worker answers with that prompt."""
        self.answer(await self.submit(*words, **more), holder(node))

    def outcome(self, name: str) -> float:
        return float(metrics.AFFINITY.labels(MODEL, name)._value.get())


_numbers = iter(range(1, 10_000))


def holder(node: str, kind: type[Holder] = Holder) -> Holder:
    made = kind(f"{node}.1", 1, next(_numbers))
    made.begins = True
    return made


@pytest.fixture
def house(bus: FakeBus) -> House:
    return House(bus)


async def test_the_next_turn_goes_to_the_engine_that_had_the_turn_before(house: House) -> None:
    for node, word in (("a", "one"), ("b", "two")):
        await house.had(node, word)
    before = house.outcome("hit")
    ticket = await house.submit("one", "more")
    assert (ticket.job.lane, ticket.terms.lane, ticket.lane) == (A, ALL, ALL)
    post = house.bus.posts[-1]
    assert post.subject == subjects.jobs(MODEL, A, "t")
    assert post.headers[WANTED_ENGINE] == engine_of("a.1", "e")
    house.answer(ticket, holder("a"))
    assert house.outcome("hit") == before + 1
    assert (await house.submit("two", "more")).job.lane == B
    assert (await house.submit("three", "more")).job.lane == ALL


async def test_it_goes_to_all_where_no_slot_is_free(house: House) -> None:
    await house.had("a", "one")
    house.affine.hear(card("a", busy=2))
    assert (await house.submit("one", "more")).job.lane == ALL
    house.affine.hear(card("a", busy=1))
    assert (await house.submit("one", "more")).job.lane == A
    assert (await house.submit("one", "other")).job.lane == ALL, "the slot is taken by the one"


async def test_slots_that_jobs_of_here_have_are_counted_once(house: House) -> None:
    """A card that says busy may speak of a job that has ended since."""
    await house.had("a", "one")
    ticket = await house.submit()
    house.claim(ticket, holder("a"))
    house.affine.hear(card("a", busy=1))
    assert house.affine.engines.free(Engine("a.1", "e")) == 1
    house.dispatch.close(ticket)
    assert house.affine.engines.free(Engine("a.1", "e")) == 2
    house.affine.hear(card("a", busy=1))
    assert house.affine.engines.free(Engine("a.1", "e")) == 1, "one that another ingress has sent"


async def test_who_does_not_take_it_in_time_has_it_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affine, "PATIENCE", 0.0)
    await house.had("a", "one")
    ticket = await house.submit("one", "more")
    await house.bus.until(lambda posts: posts[-1].subject == subjects.jobs(MODEL, ALL, "t"))
    assert (ticket.job.lane, ticket.job.edition) == (ALL, 1)
    assert WANTED_ENGINE not in house.bus.posts[-1].headers
    assert house.affine.engines.free(Engine("a.1", "e")) == 2
    late = holder("a")
    frame = late.claim()
    house.dispatch.claims.hear(ticket.job.id, frame, time.monotonic())
    assert frames.unpack_control(house.bus.to("c.a.1")[-1]).op == Op.GONE
    house.claim(ticket, holder("b"))
    assert ticket.node == "b"


SLOW = 20_000
"""Microseconds a token: it reads a prompt of these tests in 10 seconds."""


async def waiting(bus: FakeBus, **full: Any) -> House:
    """An ingress that allows 3 s, and whose worker `a` is full."""
    house = House(bus, affinity_wait=3.0)
    await house.had("a", "one")
    house.affine.hear(card("a", busy=2, **full))
    return house


async def test_a_full_engine_is_waited_for_where_reading_anew_takes_longer(bus: FakeBus) -> None:
    house = await waiting(bus, prompt_us=SLOW)
    assert (await house.submit("one", "more")).job.lane == A
    wanted = bus.posts[-1].headers
    assert wanted[WANTED_ENGINE] == engine_of("a.1", "e")
    assert wanted[WANTED_FOR] == "3000"
    assert (await house.submit("one", "more")).job.lane == A
    third = await house.submit("one", "more")
    assert third.job.lane == ALL, "as many wait as it has slots"


async def test_a_card_lets_no_more_wait(bus: FakeBus) -> None:
    house = await waiting(bus, prompt_us=SLOW)
    lanes = []
    for _ in range(4):
        lanes.append((await house.submit("one", "more")).job.lane)
        house.affine.hear(card("a", busy=2, prompt_us=SLOW))
    assert lanes == [A, A, ALL, ALL]


async def test_it_is_waited_for_half_as_long_as_that_takes(bus: FakeBus) -> None:
    house = await waiting(bus, prompt_us=SLOW // 10)
    await house.submit("one", "more")
    assert 400 < int(bus.posts[-1].headers[WANTED_FOR]) < 600


async def test_it_is_waited_for_no_longer_than_a_provider_lets_workers_have_it(
    bus: FakeBus,
) -> None:
    house = await waiting(bus, prompt_us=SLOW)
    await house.submit("one", "more", plan=replace(PLAN, claim=3.0, reach=ANY))
    assert bus.posts[-1].headers[WANTED_FOR] == "1500"


@pytest.mark.parametrize("pace", [0, 50])
async def test_it_is_not_waited_for_where_nothing_is_known_or_saved(
    bus: FakeBus, pace: int
) -> None:
    house = await waiting(bus, prompt_us=pace)
    assert (await house.submit("one", "more")).job.lane == ALL


async def test_a_free_slot_elsewhere_with_the_same_cache_is_not_waited_for(bus: FakeBus) -> None:
    house = await waiting(bus)
    await house.had("b", "one")
    house.affine.hear(card("a", busy=2, prompt_us=SLOW))
    assert (await house.submit("one", "more")).job.lane == B


@pytest.mark.parametrize("how", ["gone", "draining", "without the model"])
async def test_who_waits_for_an_engine_that_leaves_goes_to_all_at_once(
    bus: FakeBus, how: str
) -> None:
    house = await waiting(bus, prompt_us=SLOW)
    ticket = await house.submit("one", "more")
    timer = house.affine._trails[ticket.job.id].timer
    if how == "gone":
        house.affine.forget("a.1")
    else:
        left: Any = {"draining": True} if how == "draining" else {"models": ()}
        house.affine.hear(card("a", **left))
    assert timer is not None
    assert timer.cancelled()
    assert (ticket.job.lane, ticket.job.edition) == (ALL, 1)
    assert WANTED_ENGINE not in bus.posts[-1].headers


async def test_who_waits_for_one_engine_goes_to_all_once_its_model_has_no_other(
    bus: FakeBus,
) -> None:
    """Else nobody would take it away from that engine when it leaves, too."""
    house = await waiting(bus, prompt_us=SLOW)
    ticket = await house.submit("one", "more")
    timer = house.affine._trails[ticket.job.id].timer
    assert timer is not None
    house.affine.hear(card("b", draining=True))
    assert house.affine.shared == {}
    assert (ticket.job.lane, ticket.job.edition) == (ALL, 1)
    assert timer.cancelled()
    house.affine.forget("a.1")
    assert (ticket.job.lane, ticket.job.edition) == (ALL, 1)
    house.claim(ticket, holder("b"))
    assert ticket.node == "b"


async def test_who_comes_as_a_model_has_no_other_engine_any_more_is_not_remembered(
    bus: FakeBus,
) -> None:
    """Its prompt was looked at before."""
    house = House(bus)
    await house.had("a", "one")
    trail = house.trail("one", "more")
    house.affine.forget("b.1")
    order = Order(PLAN, "/v1/x", True, b"{}", "x", "t", "k", trail=trail)
    ticket = await house.dispatch.submit(order)
    assert ticket.job.lane == ALL
    assert house.affine._trails == {}


async def test_one_that_has_it_is_not_hurried(house: House) -> None:
    await house.had("a", "one")
    ticket = await house.submit("one", "more")
    house.claim(ticket, holder("a"))
    house.affine._late(ticket.job.id)
    assert ticket.job.edition == 0


async def test_a_job_whose_worker_is_lost_goes_to_all_at_once(house: House) -> None:
    await house.had("a", "one")
    ticket = await house.submit("one", "more")
    house.claim(ticket, holder("a"))
    assert ticket.revoke("disconnected", time.monotonic())
    assert (ticket.job.lane, ticket.job.edition) == (ALL, 1)
    assert house.bus.posts[-1].subject.startswith("c.a"), "it is told"
    assert subjects.jobs(MODEL, ALL, "t") in [post.subject for post in house.bus.posts]


async def test_an_engine_that_has_forgotten_is_not_asked_again(house: House) -> None:
    for word in ("zero", "one"):
        ticket = await house.submit(word)
        house.answer(ticket, holder("a"), cached=1)  # it tells
    before = house.outcome("forgotten")
    ticket = await house.submit("one", "more")
    house.answer(ticket, holder("a"), cached=3)
    assert house.outcome("forgotten") == before + 1
    assert (await house.submit("zero", "more")).job.lane == ALL, "that one is older"
    assert (await house.submit("one", "more", "yet")).job.lane == A, "it has read this one anew"


async def test_one_that_never_tells_is_believed(house: House) -> None:
    await house.had("a", "one")
    house.answer(await house.submit("one", "more"), holder("a"), cached=0)
    assert (await house.submit("one", "more", "yet")).job.lane == A


@pytest.mark.parametrize("how", ["gone", "draining", "anew"])
async def test_what_a_worker_had_goes_with_it(house: House, how: str) -> None:
    house.affine.hear(card("c"))
    await house.had("a", "one")
    if how == "gone":
        house.affine.forget("a.1")
    else:
        house.affine.hear(
            card("a", **({"draining": True} if how == "draining" else {"models": ()}))
        )
    house.affine.hear(card("a"))
    assert (await house.submit("one", "more")).job.lane == ALL


async def test_a_model_of_one_engine_is_not_looked_at(house: House) -> None:
    await house.had("a", "one")
    assert house.affine.shared == {MODEL: 2}
    house.affine.forget("b.1")
    assert house.affine.shared == {}
    assert house.dispatch.claims.caches is None
    assert house.affine._trails == {}


async def test_without_the_setting_nothing_is_shared(bus: FakeBus) -> None:
    assert House(bus, affinity=False).affine.shared == {}


async def test_jobs_that_wait_are_before_it(house: House) -> None:
    await house.had("a", "one")
    waits = await house.submit()
    waits.times.queued -= 1
    house.dispatch.queues.leave(waits.job.id)
    house.dispatch.queues.enter(waits.job, 1.0, waits.times.queued)
    assert (await house.submit("one", "more")).job.lane == ALL


@pytest.mark.parametrize("more", [{"lane": subjects.BATCH}, {"begun": b"data: {}\n\n"}])
async def test_others_stay_in_their_lanes(house: House, more: dict[str, Any]) -> None:
    await house.had("a", "one")
    trail = house.trail("one", "more")
    order = Order(PLAN, "/v1/x", True, b"{}", "x", "t", "k", trail=trail, **more)
    if "begun" in more:
        with pytest.raises(Exception, match="ingress was lost"):
            await house.dispatch.submit(order)
        assert trail is not None
        assert trail.lane == ""
    else:
        assert (await house.dispatch.submit(order)).job.lane == subjects.BATCH


async def test_a_model_for_which_no_worker_is_waited_for_is_left_alone(house: House) -> None:
    await house.had("a", "one")
    plan = Plan(MODEL, MODEL, 0.0, 30, 60)
    assert (await house.submit("one", "more", plan=plan)).job.lane == ALL


async def test_of_the_nodes_that_a_request_is_for_the_one_with_its_cache_is_taken(
    house: House,
) -> None:
    await house.had("b", "one")
    plan = Plan(MODEL, MODEL, 5, 30, 60, pin=Pin(labels=("gpu=1",)))
    house.places = lambda model, pin: [Place(n, SERVING, 2) for n in "ab"]  # type: ignore[method-assign]
    house.dispatch.placement._find = house.places
    found = [await house.submit("one", str(number), plan=plan) for number in range(2)]
    assert {each.job.lane for each in found} == {B}
    assert {each.terms.lane for each in found} == {B}


async def test_while_jobs_wait_a_slot_is_for_the_one_whose_cache_it_has(house: House) -> None:
    await house.had("a", "one")
    for node in "ab":
        house.affine.hear(card(node, busy=2))
    first, second = await house.submit("two", "x"), await house.submit("one", "x")
    waits = holder("a")
    waits.begins = False
    house.claim(first, waits)
    assert second.node == "a"
    assert first.holder is None
    again = holder("a")
    again.begins = False
    await house.submit("one", "y")
    house.claim(first, again)
    assert first.node == "a", "it is passed over once"


async def test_a_provider_has_no_cache(house: House) -> None:
    await house.had("a", "one")
    ticket = await house.submit("two")
    ticket.terms = ticket.terms.__class__(3, may_leave=True)
    ticket.offer(time.monotonic())
    house.answer(ticket, holder("f", FallbackHolder))
    assert (await house.submit("two", "more")).job.lane == ALL


async def test_others_are_told_and_believed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affine, "TELL_EACH", 0.0)
    other = House(FakeBus(), "in-2")
    await other.affine.open()
    await house.had("a", "one")
    await house.bus.until(lambda posts: posts[-1].subject == subjects.CACHES)
    said = house.bus.posts[-1].payload
    other.bus.deliver(message(subjects.CACHES, said))
    assert (await other.submit("one", "more")).job.lane == A
    await house.affine.open()
    house.affine.forget("a.1")
    house.affine.hear(card("a"))
    house.bus.deliver(message(subjects.CACHES, said))
    assert (await house.submit("one", "more")).job.lane == ALL, "its own words are no news"


async def test_rubbish_and_floods_are_passed_over(house: House) -> None:
    await house.affine.open()
    house.bus.deliver(message(subjects.CACHES, b"rubbish"))
    trail = house.trail("one")
    assert trail is not None
    said = gossip.pack_learnt("in-9", [Learnt("a.1", "e", 10, tuple(trail.marks))])
    unknown = gossip.pack_learnt("in-9", [Learnt("z.1", "e", 10, tuple(trail.marks))])
    house.affine._heard = int(time.monotonic()), affine.MOST_HEARD
    house.bus.deliver(message(subjects.CACHES, said))
    house.affine._heard = 0, 0
    house.bus.deliver(message(subjects.CACHES, unknown))
    assert len(house.affine._map) == 0
    house.bus.deliver(message(subjects.CACHES, said))
    assert len(house.affine._map) == 1


async def test_books_are_even_once_all_is_over(house: House) -> None:
    for word in ("one", "two", "three"):
        await house.had("a", word)
        ticket = await house.submit(word, "more")
        house.claim(ticket, holder("b"))
        ticket.revoke("silent", time.monotonic())
        house.dispatch.close(ticket)
    assert not house.affine.engines._own
    assert not house.affine.engines._running
    assert not house.affine.engines._at
    assert not house.affine._trails
    await asyncio.sleep(0)
