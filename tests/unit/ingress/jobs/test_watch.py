from __future__ import annotations

import asyncio
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from ingress.answer.respond import News
from ingress.jobs import watch as watches
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.order import Order
from ingress.jobs.ticket import Ticket
from ingress.jobs.watch import Watch
from ingress.models.catalog import Catalog
from ingress.models.pins import Pin
from ingress.models.routes import Plan
from schemas import errors, subjects
from schemas.bus import ApiError, NotFound
from schemas.frames import VERSION, Op, unpack_control
from schemas.nodes import EngineState, ServedModel
from schemas.settings import Settings
from tests.unit import fakes, version_1
from tests.unit.fakes import FakeBus, card, message
from tests.unit.ingress.jobs.recorder import FallbackHolder, Holder

A = Holder("a", 1)
SILENCE = Settings().ingress.silence
PATIENCE = Settings().ingress.broker_wait


class WatchSetup:
    """A watch over one ticket. `now` is monotonic; `wall` is in milliseconds after its arrival."""

    def __init__(self, bus: FakeBus, grace: float = 0.0, absence: float = 0.0) -> None:
        self.bus = bus
        self.config = Settings.model_validate({"ingress": {"grace": grace, "absence": absence}})
        self.now = time.monotonic()  # the watch reads it itself when a connection is lost
        self.catalog = Catalog(lambda: self.now)
        self.catalog.hear(card("a", "m", client=1))
        self.dispatch = Dispatch(bus, "in-1", self.config)
        self.watch = Watch(bus, self.config, self.dispatch, self.catalog)

    async def submit(
        self, claim: float = 2, first: float = 30, total: float = 60, lane: str = "i"
    ) -> Ticket:
        plan = Plan("m", "m", claim, first, total)
        order = Order(plan, "/v1/x", True, b"{}", "x", "a", "k", lane=lane)
        ticket = await self.dispatch.submit(order)
        ticket.times.queued = ticket.times.freed = ticket.times.posted = self.now
        ticket.postings.stored(0, 9)
        return ticket

    def check(self, ticket: Ticket, after: float, wall: float = 0.0) -> None:
        self.watch._check(ticket, self.now + after, ticket.job.arrived + wall * 1000)

    def told(self, holder: str) -> list[int]:
        return [unpack_control(sent).op for sent in self.bus.to(f"c.{holder}")]


@pytest.fixture
async def setup(bus: FakeBus) -> AsyncIterator[WatchSetup]:
    made = WatchSetup(bus)
    yield made
    made.watch.close()


async def test_all_is_well_for_a_while(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    ticket.frame(A.claim(), setup.now)
    setup.check(ticket, 1.0, wall=29)
    assert (ticket.done, setup.told("a")) == (False, [Op.GO])


async def test_the_whole_answer_has_a_deadline(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    ticket.frame(A.claim(), setup.now)
    ticket.frame(A.start(), setup.now)
    ticket.frame(A.data(1, b"x"), setup.now)
    setup.check(ticket, 0, wall=59)
    assert not ticket.done
    setup.check(ticket, 0, wall=60.01)
    assert isinstance(ticket.received.error, errors.DeadlineExceeded)
    assert "60.0 s" in ticket.received.error.message
    assert "node-a" in ticket.received.error.message
    assert setup.told("a")[-1] == Op.CANCEL


async def test_the_first_token_has_a_deadline(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    setup.check(ticket, 0, wall=30.01)
    assert isinstance(ticket.received.error, errors.DeadlineExceeded)
    assert "in the queue" in ticket.received.error.message


async def test_what_is_late_at_a_provider_says_so(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    ticket.offer(setup.now)
    ticket.frame(FallbackHolder("fb", 1).claim(), setup.now)
    setup.check(ticket, 0, wall=60.01)
    assert ticket.received.error is not None
    assert "the request was at a provider" in ticket.received.error.message


async def test_a_publish_that_is_not_confirmed_is_a_503(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    ticket.postings.stored(0, 0)
    setup.check(ticket, PATIENCE)
    assert not ticket.done
    setup.check(ticket, PATIENCE + 0.1)
    assert isinstance(ticket.received.error, errors.BrokerUnavailable)


async def test_a_claim_is_as_good_as_a_confirmation(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    ticket.postings.stored(0, 0)
    ticket.frame(A.claim(), setup.now + 5)
    setup.check(ticket, PATIENCE + 0.1)
    assert not ticket.done


async def test_a_publish_that_is_not_confirmed_is_repeated_by_and_by(setup: WatchSetup) -> None:
    """A cluster of brokers that chooses a leader says nothing, or that there is none."""
    ticket = await setup.submit()
    ticket.postings.stored(0, 0)
    for age, published in ((watches.REPEAT, 1), (watches.REPEAT + 0.1, 2)):
        setup.check(ticket, age)
        assert len(setup.bus.to(subjects.jobs("m", subjects.INTERACTIVE, "a"))) == published
    ticket.postings.stored(0, 5)
    setup.check(ticket, 3 * watches.REPEAT)
    assert len(setup.bus.to(subjects.jobs("m", subjects.INTERACTIVE, "a"))) == 2


async def test_a_silent_holder_is_asked_then_revoked(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    ticket.frame(A.claim(), setup.now)
    setup.check(ticket, watches.ASK_AFTER)
    assert setup.told("a") == [Op.GO]
    setup.check(ticket, watches.ASK_AFTER + 0.1)
    assert setup.told("a") == [Op.GO, Op.RESEND]
    setup.check(ticket, SILENCE + 0.1)
    assert setup.told("a") == [Op.GO, Op.RESEND, Op.DROP]
    assert setup.bus.to(A.ack) == [b"-NAK"]


async def test_while_the_broker_is_away_nobody_is_silent(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    ticket.frame(A.claim(), setup.now)
    setup.bus.up = False
    setup.check(ticket, 20)
    assert ticket.holder is not None
    assert ticket.holder.heard == setup.now + 20


async def test_a_known_model_that_nobody_serves_is_a_503_after_the_claim_deadline(
    setup: WatchSetup,
) -> None:
    ticket = await setup.submit(claim=2)
    setup.check(ticket, 60)
    assert not ticket.done  # somebody serves it: it waits for a slot
    setup.catalog.forget("a")
    setup.now += 1.9
    setup.check(ticket, 0)
    assert not ticket.done
    setup.now += 0.2
    setup.check(ticket, 0)
    assert isinstance(ticket.received.error, errors.NoWorker)
    assert ticket.received.error.retry_after


async def test_a_model_that_was_served_a_moment_ago_is_waited_for(bus: FakeBus) -> None:
    setup = WatchSetup(bus, absence=20)
    setup.catalog.forget("a")
    ticket = await setup.submit(claim=2)
    setup.now += 20
    setup.check(ticket, 0)
    assert not ticket.done
    starting = EngineState("e", "echo", "starting", 4, 0)
    setup.catalog.hear(card("a", engines=(starting,), client=1))
    setup.now += 9
    setup.check(ticket, 0)
    assert not ticket.done
    setup.catalog.forget("a")
    setup.check(ticket, 0)
    assert isinstance(ticket.received.error, errors.NoWorker)
    setup.watch.close()


async def test_a_job_that_lost_its_holder_has_its_whole_patience_again(setup: WatchSetup) -> None:
    setup.catalog.forget("a")
    ticket = await setup.submit(claim=2)
    ticket.frame(A.claim(), setup.now + 10)
    ticket.revoke("disconnected", setup.now + 10)
    setup.now += 11.9
    setup.check(ticket, 0)
    assert not ticket.done
    setup.check(ticket, 0.2)
    assert isinstance(ticket.received.error, errors.NoWorker)


async def test_a_job_that_found_no_other_holder_is_looked_for(setup: WatchSetup) -> None:
    ticket = await setup.submit()
    setup.check(ticket, watches.RESTORE_AFTER + 1)
    assert setup.bus.api_calls == []
    ticket.frame(A.claim(), setup.now)
    ticket.revoke("disconnected", setup.now)
    setup.bus.api_answer = lambda verb, body: {"message": {}}
    setup.check(ticket, watches.RESTORE_AFTER + 0.1)
    setup.check(ticket, watches.RESTORE_AFTER + 0.2)
    await fakes.turns()
    assert setup.bus.api_calls == [("STREAM.MSG.GET.JOBS", {"seq": 9})]


async def test_a_batch_job_that_has_waited_long_becomes_interactive(setup: WatchSetup) -> None:
    ticket = await setup.submit(lane=subjects.BATCH)
    patience = setup.config.jobs.batch_patience
    ticket.times.seek(setup.now + patience)
    setup.check(ticket, patience - 1)
    assert (ticket.job.lane, len(setup.bus.posts)) == (subjects.BATCH, 1)
    setup.check(ticket, patience + 1)
    assert ticket.job.lane == subjects.INTERACTIVE
    assert setup.bus.posts[-1].subject.startswith(f"jobs.m.{subjects.INTERACTIVE}")
    ticket.postings.stored(1, 10)
    setup.check(ticket, patience + 2)
    assert len(setup.bus.posts) == 2


async def test_a_batch_job_that_somebody_has_stays_as_it_is(setup: WatchSetup) -> None:
    ticket = await setup.submit(lane=subjects.BATCH)
    ticket.frame(A.claim(), setup.now)
    after = setup.config.jobs.batch_patience + 1
    assert ticket.holder is not None
    ticket.holder.spare(setup.now + after)
    setup.check(ticket, after)
    assert ticket.job.lane == subjects.BATCH
    ticket.revoke("killed", setup.now + after)
    setup.check(ticket, after)
    assert ticket.job.lane == subjects.INTERACTIVE


async def test_a_batch_job_is_offered_to_providers_as_an_interactive_one(bus: FakeBus) -> None:
    setup = WatchSetup(bus)
    setup.config = setup.config.model_copy(
        update={"routes": setup.config.routes.model_copy(update={"batch_claim": 5.0})}
    )
    setup.dispatch._config = setup.watch._config = setup.config
    ticket = await setup.submit(lane=subjects.BATCH)
    setup.check(ticket, 6)
    assert ticket.job.lane == subjects.INTERACTIVE


def event(client: int, server: str = "S") -> bytes:
    return orjson.dumps({"server": {"id": server}, "client": {"id": client}})


async def test_a_lost_connection_revokes_what_its_worker_held(setup: WatchSetup) -> None:
    await setup.watch.open()
    held, other = await setup.submit(), await setup.submit()
    before = time.monotonic() - 1
    news = News([held])
    held.frame(A.claim(), before)
    other.frame(Holder("b", 1).claim(), before)
    setup.bus.deliver(message(subjects.DISCONNECTS, event(99)))
    setup.bus.deliver(message(subjects.DISCONNECTS, event(1, "T")))
    await fakes.turns()
    assert held.holder is not None
    setup.bus.deliver(message(subjects.DISCONNECTS, event(1)))
    async with asyncio.timeout(fakes.PATIENCE):
        while held.holder is not None:
            await news.wait()
    assert setup.bus.to(A.ack) == [b"-NAK"]
    assert other.holder is not None
    assert not setup.catalog.serves("m")


@pytest.mark.parametrize("by", ["card", "frame"])
async def test_a_worker_that_is_back_within_the_grace_keeps_its_jobs(bus: FakeBus, by: str) -> None:
    setup = WatchSetup(bus, grace=0.01)
    ticket = await setup.submit()
    ticket.frame(A.claim(), time.monotonic())
    # Nothing has a turn before it is back, so that the grace cannot be over by then.
    giving_up = asyncio.create_task(setup.watch._give_up("a", time.monotonic()))
    if by == "card":
        setup.now = time.monotonic()
        setup.catalog.hear(card("a", "m", client=2))
    else:
        ticket.frame(A.alive(0), time.monotonic())
    await giving_up
    assert ticket.holder is not None


async def test_cards_are_heard_and_rubbish_is_not(setup: WatchSetup) -> None:
    await setup.watch.open()
    setup.bus.deliver(message("hb.box.b", b"rubbish"))
    setup.bus.deliver(message("hb.box.b", card("box.b", "n").pack()))
    assert setup.catalog.serves("n")


async def test_a_worker_whose_facts_are_not_known_is_asked_for_a_whole_card(
    setup: WatchSetup,
) -> None:
    await setup.watch.open()
    served = ServedModel("n", "e", "echo", 4, knows=(f"chat {secrets.token_hex(8)}",))
    told = replace(card("box.b"), models=(served,))
    setup.bus.deliver(message("hb.box.b", told.pack(whole=False)))
    assert not setup.catalog.serves("n")
    (asked,) = setup.bus.to("c.box.b")
    assert unpack_control(asked).op == Op.SHOW
    setup.bus.deliver(message("hb.box.b", told.pack()))
    setup.bus.deliver(message("hb.box.b", told.pack(whole=False)))
    assert setup.catalog.serving("n") == [served]
    assert len(setup.bus.to("c.box.b")) == 1


async def test_who_speaks_another_version_serves_nothing_and_is_named_once(
    setup: WatchSetup,
) -> None:
    await setup.watch.open()
    with capture_logs() as lines:
        for _ in range(3):
            setup.bus.deliver(message("hb.attic.w-old", version_1.CARD))
        setup.bus.deliver(message("hb.box.n", card("box.n", "new", protocol=VERSION + 1).pack()))
    assert not setup.catalog.serves("old")
    assert not setup.catalog.serves("new")
    said = [line for line in lines if line["event"] == "watch.refused"]
    assert [(line["of"], line["version"]) for line in said] == [
        ("attic.w-old", 1),
        ("box.n", VERSION + 1),
    ]
    assert "run one release of Headrace everywhere" in said[0]["error"]


async def test_after_a_reconnection_all_clocks_start_anew(setup: WatchSetup) -> None:
    await setup.watch.open()
    setup.now += 60
    await setup.bus.reconnect()
    assert setup.catalog.expire() == []


async def test_the_sweep_looks_at_every_ticket(
    setup: WatchSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "SWEEP", 0)
    ticket = await setup.submit(total=0.001, first=0.001)
    news = News([ticket])
    setup.catalog.hear(card("old", "o"))
    setup.now += 60
    await setup.watch.open()
    async with asyncio.timeout(fakes.PATIENCE):
        while not ticket.done:
            await news.wait()
    assert isinstance(ticket.received.error, errors.DeadlineExceeded)
    assert not setup.catalog.serves("o")


async def test_models_are_learned_from_all_pages_of_consumers(setup: WatchSetup) -> None:
    names = [f"m{i}" for i in range(5)]

    def page(verb: str, body: Any) -> dict[str, Any]:
        found = [
            {"config": {"metadata": {"headrace.model": name}}}
            for name in names[body["offset"] : body["offset"] + 2]
        ]
        return {"total": 6, "consumers": [*found, {"config": {}}][:2] or None}

    setup.bus.api_answer = page
    await setup.watch.learn()
    assert setup.catalog.known() == ["m", *names]
    assert not setup.catalog.serves("m0")


async def look(setup: WatchSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until the watch has looked at each ticket once, two at most."""
    looks, looked = [0], asyncio.Event()
    check = setup.watch._check

    def counted(*said: Any) -> None:
        check(*said)
        looks[0] += 1
        if looks[0] == 2:
            looked.set()

    monkeypatch.setattr(setup.watch, "_check", counted)
    async with asyncio.timeout(fakes.PATIENCE):
        await looked.wait()


async def test_a_clock_that_is_put_right_ends_no_request(
    setup: WatchSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await setup.submit()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    await setup.watch.open()
    await look(setup, monkeypatch)
    assert ticket.received.error is None


async def test_while_this_process_stood_still_nobody_was_silent(
    setup: WatchSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await setup.submit()
    ticket.frame(A.claim(), setup.now)
    unstored = await setup.submit()
    unstored.postings.stored(0, 0)
    await setup.watch.open()
    await fakes.turns()
    clock, later = time.monotonic, SILENCE + 10
    monkeypatch.setattr(time, "monotonic", lambda: clock() + later)
    setup.now += later
    await look(setup, monkeypatch)
    assert ticket.holder is not None
    assert unstored.received.error is None
    assert setup.catalog.serves("m")


def _without_messages(verb: str, body: object) -> dict[str, Any]:
    if verb == "STREAM.MSG.GET.JOBS":
        raise NotFound(verb, {"err_code": 10037})
    return {"config": {}}


def looked_for(setup: WatchSetup) -> int:
    return sum(verb == "STREAM.MSG.GET.JOBS" for verb, _ in setup.bus.api_calls)


async def test_a_job_that_waits_long_is_looked_for(setup: WatchSetup) -> None:
    """With a claim deadline that is longer than that."""
    setup.bus.api_answer = lambda verb, body: {
        "message": {"hdrs": b64encode(ticket.job.id.encode())}
    }
    ticket = await setup.submit(claim=100)
    for after, wanted in ((14.9, 0), (15.1, 1), (30.0, 1), (30.2, 2)):
        setup.check(ticket, after)
        await fakes.turns()
        assert looked_for(setup) == wanted


async def test_a_broker_that_came_back_is_asked_for_what_waits(setup: WatchSetup) -> None:
    """Once; and again soon if it had lost some."""
    await setup.watch.open()
    setup.bus.api_answer = _without_messages
    ticket = await setup.submit(claim=100)
    ticket.times.posted -= 1
    for call in setup.bus._on_reconnect:
        call()
    setup.check(ticket, 0.1)
    setup.check(ticket, 0.2)
    await fakes.turns()
    assert looked_for(setup) == 1
    assert ticket.job.edition == 1, "nothing there is of this job"
    ticket.postings.stored(1, 10)
    setup.check(ticket, 1.0)
    setup.check(ticket, 3.0)
    await fakes.turns()
    assert looked_for(setup) == 2


async def test_a_stream_that_the_broker_lost_is_made_anew_and_named(setup: WatchSetup) -> None:
    await setup.watch.open()

    def answer(verb: str, body: object) -> dict[str, Any]:
        if verb == "STREAM.INFO.JOBS":
            raise NotFound(verb, {"err_code": 10059})
        return {"config": {}}

    setup.bus.api_answer = answer
    with capture_logs() as logs:
        for call in setup.bus._on_reconnect:
            call()
        await fakes.turns()
    assert [line["stream"] for line in logs if line["event"] == "watch.stream_lost"] == ["JOBS"]
    assert "STREAM.CREATE.JOBS" in [verb for verb, _ in setup.bus.api_calls]


async def test_streams_that_there_is_no_room_for_are_left_out(setup: WatchSetup) -> None:
    def answer(verb: str, body: object) -> dict[str, Any]:
        if verb == "STREAM.INFO.USAGE":
            raise NotFound(verb, {"err_code": 10059})
        if verb == "STREAM.CREATE.USAGE":
            raise ApiError(verb, {"err_code": 10047, "description": "insufficient storage"})
        return {"config": {}}

    setup.bus.api_answer = answer
    with capture_logs() as logs:
        await setup.watch.make_streams()
    (line,) = [line for line in logs if line["event"] == "watch.no_room"]
    assert (line["stream"], line["bytes"]) == ("USAGE", 512 * 2**20)
    assert "STREAM.INFO.ANSWERS" in [verb for verb, _ in setup.bus.api_calls], "the others are made"


async def test_without_room_for_the_queue_there_is_nothing(setup: WatchSetup) -> None:
    def answer(verb: str, body: object) -> dict[str, Any]:
        if verb.endswith(".JOBS"):
            error = NotFound if "INFO" in verb else ApiError
            raise error(verb, {"err_code": 10047})
        return {"config": {}}

    setup.bus.api_answer = answer
    with pytest.raises(ApiError):
        await setup.watch.make_streams()


async def test_a_message_that_was_anothers_is_looked_for_when_its_time_is_up(
    setup: WatchSetup,
) -> None:
    ticket = await setup.submit()
    ticket.postings.newest.expires = setup.now + 3
    for age, looks in ((2.9, 0), (3.1, 1), (3.2, 1)):
        setup.check(ticket, age)
        await fakes.turns()
        assert len([verb for verb, _ in setup.bus.api_calls if "MSG.GET" in verb]) == looks


class PinnedSetup(WatchSetup):
    """A job for one of two nodes, `node-of-a` and `node-of-b`, which both serve the model."""

    def __init__(self, bus: FakeBus) -> None:
        super().__init__(bus, absence=20)
        self.catalog.forget("a")
        for node in ("a", "b"):
            self.catalog.hear(card(f"{node}.1", "m", node=node, labels=("zone=home",)))
        self.dispatch = Dispatch(bus, "in-1", self.config, places=self.catalog.nodes.places)
        self.watch = Watch(bus, self.config, self.dispatch, self.catalog)

    async def pinned(self, pin: Pin) -> Ticket:
        plan = Plan("m", "m", 2.0, 300.0, 600.0, pin=pin)
        ticket = await self.dispatch.submit(Order(plan, "/v1/x", True, b"{}", "x", "a", "k"))
        ticket.times.queued = ticket.times.freed = ticket.times.posted = self.now
        ticket.postings.stored(0, 9)
        return ticket


async def test_a_job_of_a_node_that_went_waits_for_it_and_then_says_why(bus: FakeBus) -> None:
    setup = PinnedSetup(bus)
    ticket = await setup.pinned(Pin("a"))
    setup.check(ticket, 60)
    assert not ticket.done, "its node serves the model: it waits for a slot"
    setup.catalog.forget("a.1")
    setup.now += 19
    setup.check(ticket, 0)
    assert (ticket.done, ticket.job.lane) == (False, "n-a"), "never quietly elsewhere"
    setup.now += 2
    setup.check(ticket, 0)
    error = ticket.received.error
    assert isinstance(error, errors.NoWorker)
    assert "The node 'a' is away" in error.message
    assert error.retry_after


async def test_a_node_that_comes_back_in_time_has_its_job(bus: FakeBus) -> None:
    setup = PinnedSetup(bus)
    ticket = await setup.pinned(Pin("a"))
    setup.catalog.forget("a.1")
    setup.now += 15
    setup.catalog.hear(card("a.2", "m", node="a"))
    setup.now += 15
    setup.check(ticket, 0)
    assert not ticket.done


async def test_a_job_with_labels_goes_to_another_node_at_once(bus: FakeBus) -> None:
    setup = PinnedSetup(bus)
    ticket = await setup.pinned(Pin(labels=("zone=home",)))
    lane = ticket.job.lane
    setup.catalog.forget(f"{subjects.node_of(lane)}.1")
    setup.check(ticket, 0)
    assert ticket.job.lane == {"n-a": "n-b", "n-b": "n-a"}[lane]
    assert ticket.job.edition == 1
    ticket.postings.stored(1, 10)
    setup.now += 60
    setup.check(ticket, 0)
    assert not ticket.done


async def test_who_may_be_looked_at_seldom(bus: FakeBus) -> None:
    """Nothing can be due soon: the answer comes, its holder is heard, and nobody has a copy."""
    setup = WatchSetup(bus)
    ticket, now = await setup.submit(), setup.now
    assert not watches._is_calm(ticket, now, 0.0), "it waits"
    for frame in (A.claim(), A.start(), A.data(1, b"x")):
        ticket.frame(frame, now)
    assert watches._is_calm(ticket, now, 0.0)
    assert not watches._is_calm(ticket, now + watches.ASK_AFTER, 0.0)
    assert not watches._is_calm(ticket, now, ticket.job.total_by - 1.0)
    ticket.custody.hedge = ticket.holder
    assert not watches._is_calm(ticket, now, 0.0)
