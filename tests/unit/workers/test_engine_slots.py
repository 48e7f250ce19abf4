from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from schemas import settings, subjects
from schemas.bus import BusError, Message
from schemas.frames import End, Role
from schemas.jobs import Begun, Job
from schemas.nodes import ServedModel
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers import engine_slots
from workers.attempt import Attempt
from workers.engine_slots import EngineSlots
from workers.engines.base import EngineFault, Offer, Sink
from workers.process.supervised import Supervised
from workers.runner import Runner

ECHO = settings.Engine(name="e", kind="echo", url="echo://", priority=2)


class Engine:
    """Found, checked and probed as the test says."""

    name, kind = "e", "fake"

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.early = False
        self.odd = False
        self.away: str = ""
        self.turns = True
        self.probes = 0
        self.slots = 2
        self.models: tuple[str, ...] = ("m",)
        self.better: Offer | None = None

    async def discover(self) -> Offer:
        if self.away:
            raise EngineFault(self.away, early=self.early)
        if self.odd:
            self.odd = False
            raise TypeError("'int' object is not iterable")
        models = (ServedModel(name, "e", "fake", self.slots) for name in self.models)
        return Offer(self.slots, tuple(models))

    async def check(self) -> Offer | None:
        if self.faults:
            raise EngineFault(self.faults.pop(0))
        return self.better

    async def probe(self) -> bool:
        self.probes += 1
        return self.turns

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        raise AssertionError

    async def open(self) -> None: ...
    async def close(self) -> None: ...


class SlotsSetup:
    """The slots of an engine, and the states that it moved through."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.engine = Engine()
        self.states: list[str] = []
        self.taken: list[Message] = []
        self._news = asyncio.Event()
        runner = Runner(bus, Role.WORKER, fakes.HOLDER, "node", Settings())
        self.slots = EngineSlots(bus, runner, self.engine, ECHO, Settings(), self._changed, {})
        runner.take = self._take  # type: ignore[method-assign]

    def _changed(self) -> None:
        self.states.append(self.slots.state.state)
        self._news.set()

    def _take(self, slots: Any, source: Any, message: Message) -> None:
        self.taken.append(message)
        slots.take()

    async def until(self, *states: str) -> None:
        """Wait until it has moved through these states, and no more."""
        async with asyncio.timeout(fakes.PATIENCE):
            while len(self.states) < len(states):
                self._news.clear()
                await self._news.wait()
        assert self.states == list(states)

    def pulls(self) -> list[str]:
        return [p.subject for p in self.bus.posts if ".MSG.NEXT." in p.subject]


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_slots, "_BACKOFF", 0.001)


@pytest.fixture
async def setup(bus: FakeBus) -> AsyncIterator[SlotsSetup]:
    made = SlotsSetup(bus)
    yield made
    await made.slots.drain()


async def test_a_good_engine_is_found_checked_and_pulls(setup: SlotsSetup) -> None:
    assert setup.slots.state.state == "stopped"
    setup.slots.start()
    await setup.until("starting", "ready")
    assert setup.slots.ready
    assert setup.slots.state.slots == 2
    assert [model.id for model in setup.slots.models] == ["m"]
    assert setup.bus.api_calls == [], "an ingress makes the consumers"
    lanes = subjects.INTERACTIVE, subjects.pinned("node")
    shared, own = (
        f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{subjects.consumer('m', lane)}" for lane in lanes
    )
    assert setup.pulls() == [shared, own]
    assert b'"priority":2' in setup.bus.posts[0].payload


async def test_what_its_check_tells_of_its_models_counts(setup: SlotsSetup) -> None:
    setup.engine.better = Offer(3, (ServedModel("m", "e", "fake", 3, 2048),))
    setup.slots.start()
    await setup.until("starting", "ready")
    assert [(model.context, setup.slots.state.slots) for model in setup.slots.models] == [(2048, 3)]


async def test_an_engine_that_is_away_is_looked_for(setup: SlotsSetup) -> None:
    setup.engine.away = "cannot be reached"
    setup.slots.start()
    await setup.until("starting", "failed")
    assert setup.slots.state.reason == "cannot be reached"
    assert (setup.pulls(), setup.slots.ready) == ([], False)
    setup.engine.away = ""
    await setup.until("starting", "failed", "ready")
    assert setup.slots.state.reason == ""


async def test_an_engine_of_another_kind_is_served_and_told_of(setup: SlotsSetup) -> None:
    async def said_kind() -> str:
        return "llamacpp"

    setup.engine.said_kind = said_kind  # type: ignore[attr-defined]
    setup.engine.away = "answered 404"
    setup.slots.start()
    await setup.until("starting", "failed")
    assert setup.slots.state.reason.startswith("answered 404; it is llama-server, and named as ")
    setup.engine.away = ""
    with capture_logs() as said:
        await setup.until("starting", "failed", "ready")
    assert setup.slots.state.reason.startswith("it is llama-server, and named as kind 'fake' here")
    (line,) = [each for each in said if each["event"] == "engine.ready"]
    assert (line["log_level"], line["models"], line["slots"]) == ("warning", ["m"], 2)


async def test_an_engine_whose_answer_nobody_foresaw_has_failed_and_is_asked_again(
    setup: SlotsSetup,
) -> None:
    setup.engine.odd = True
    setup.slots.start()
    await setup.until("starting", "failed", "ready")


async def test_an_engine_that_loads_is_starting_and_says_what_it_lacks(setup: SlotsSetup) -> None:
    setup.engine.away, setup.engine.early = "loading the model", True
    setup.slots.start()
    await setup.until("starting")
    async with asyncio.timeout(fakes.PATIENCE):
        while not setup.slots.state.reason:
            await fakes.turns()
    assert setup.slots.state.reason == "loading the model"
    setup.engine.away = ""
    await setup.until("starting", "ready")
    assert setup.slots.state.reason == ""


async def test_a_program_that_ends_is_a_doubt_at_once(bus: FakeBus) -> None:
    config = settings.Engine(name="e", command=["x", "{port}"])
    engine = Supervised(config, lambda _: Engine())
    runner = Runner(bus, Role.WORKER, fakes.HOLDER, "node", Settings())
    slots = EngineSlots(bus, runner, engine, config, Settings(), lambda: None, {})
    slots._state = "ready"
    engine.on_end(EngineFault("killed by SIGKILL", away=True))
    assert (slots.state.state, slots.state.reason) == ("failed", "killed by SIGKILL")
    assert slots._room.free() == 0


async def test_an_engine_that_fails_its_check_does_not_pull(setup: SlotsSetup) -> None:
    setup.engine.faults = ["a small job failed"] * 3
    setup.slots.start()
    await setup.until("starting", "failed", "ready")
    assert setup.engine.faults == []
    assert len(setup.pulls()) == 2


async def test_a_broker_that_fails_meanwhile_is_waited_for(
    setup: SlotsSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe, faults = setup.bus.subscribe, [BusError("closed")]

    async def fail_once(*arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return await subscribe(*arguments)

    monkeypatch.setattr(setup.bus, "subscribe", fail_once)
    setup.slots.start()
    await setup.until("starting", "failed", "ready")
    assert len(setup.pulls()) == 2


async def test_in_doubt_it_stops_pulling_until_it_passed_its_check(setup: SlotsSetup) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    setup.bus.posts.clear()
    inbox = setup.bus.subscriptions[0]
    setup.engine.faults = ["still broken"]
    setup.slots.suspect(EngineFault("connection refused", away=True))
    assert setup.slots.state.reason == "connection refused"
    inbox.handler(fakes.message(inbox.subject, b"job", fakes.ack()))
    assert (setup.taken, setup.bus.to(fakes.ack())) == ([], [b"-NAK"])
    await setup.until("starting", "ready", "failed", "ready")
    assert len(setup.bus.subscriptions) == 3  # one a lane
    assert inbox.subject not in {each.subject for each in setup.bus.subscriptions}


async def test_a_fault_of_one_job_raises_no_doubt(setup: SlotsSetup) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    setup.slots.suspect(EngineFault("this one failed"))
    await fakes.turns()
    assert setup.slots.ready


async def test_a_doubt_before_it_is_ready_changes_nothing(setup: SlotsSetup) -> None:
    setup.slots.suspect(EngineFault("away", away=True))
    assert setup.states == []


async def test_an_idle_engine_is_looked_at(
    setup: SlotsSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_slots, "_IDLE_PROBE", 0.001)
    setup.slots.start()
    await setup.until("starting", "ready")
    setup.engine.turns = False
    await setup.until("starting", "ready", "failed")
    assert "does not answer" in setup.slots.state.reason
    assert setup.engine.probes >= 1


async def test_a_busy_engine_is_not(setup: SlotsSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    monkeypatch.setattr(engine_slots, "_IDLE_PROBE", 0)
    setup.slots.take()
    setup.engine.turns = False
    serving = asyncio.create_task(setup.slots._serve())
    await fakes.turns(50)
    assert (setup.slots.ready, setup.engine.probes) == (True, 0)
    serving.cancel()


async def test_jobs_take_slots_that_all_its_models_share(setup: SlotsSetup) -> None:
    setup.engine.models = ("m", "n")
    setup.slots.start()
    await setup.until("starting", "ready")
    one, other = setup.bus.subscriptions[:2]
    for inbox in (one, one, other):
        inbox.handler(fakes.message(inbox.subject, b"job", fakes.ack()))
    assert (len(setup.taken), setup.slots.state.busy) == (2, 2)
    assert setup.bus.to(fakes.ack()) == [b"-NAK"]
    setup.slots.release()
    assert setup.slots.state.busy == 1


async def test_on_a_new_connection_it_pulls_afresh(setup: SlotsSetup) -> None:
    await setup.slots.reopen()
    assert setup.pulls() == []
    setup.slots.start()
    await setup.until("starting", "ready")
    await setup.slots.reopen()
    assert len(setup.pulls()) == 4
    setup.slots.heal(1e9)
    assert len(setup.pulls()) == 6


async def test_drained_it_pulls_no_more_and_stays_so(setup: SlotsSetup) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    await setup.slots.drain()
    assert setup.bus.subscriptions == []
    setup.slots.suspect(EngineFault("away", away=True))
    await fakes.turns()
    assert setup.states == ["starting", "ready", "stopping"]


async def test_drained_while_it_looks_for_its_engine(setup: SlotsSetup) -> None:
    setup.engine.away = "cannot be reached"
    setup.slots.start()
    await setup.until("starting", "failed")
    await setup.slots.drain()
    setup.engine.away = ""
    await fakes.turns(20)
    assert setup.states[-1] == "stopping"
    assert setup.pulls() == []


async def test_how_fast_it_answers_is_on_its_card(setup: SlotsSetup) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    attempt = Attempt(setup.bus, fakes.HOLDER, replace(fakes.job(), model="m"), fakes.ack(), 1000)
    attempt.start(200, "application/json")
    attempt.end(End(1, 10, 0, 100))
    setup.slots.answered(attempt)
    setup.slots.heal(0.0)
    (model,) = setup.slots.models
    assert (model.token_us, model.priority, model.rank) == (10_000, 2, 2)


async def test_an_answer_that_was_begun_elsewhere_tells_no_pace(setup: SlotsSetup) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    job = replace(fakes.job(), model="m", begun=Begun(5, "words", ""))
    attempt = Attempt(setup.bus, fakes.HOLDER, job, fakes.ack(), 1000)
    attempt.end(End(1, 10, 0, 100))
    setup.slots.answered(attempt)
    setup.slots.heal(0.0)
    assert [model.token_us for model in setup.slots.models] == [0]


async def test_all_lanes_are_asked_with_the_rank_that_was_told(setup: SlotsSetup) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    setup.slots.rank("m", 5)
    setup.slots.heal(0.0)
    assert [model.rank for model in setup.slots.models] == [5]
    setup.bus.posts.clear()
    await setup.slots.reopen()
    assert {orjson.loads(post.payload)["priority"] for post in setup.bus.posts} == {5}


async def test_the_rank_outlives_a_failure_of_the_engine(setup: SlotsSetup) -> None:
    setup.slots.start()
    await setup.until("starting", "ready")
    setup.slots.rank("m", 5)
    setup.slots.suspect(EngineFault("hangs", away=True))
    await setup.until("starting", "ready", "failed", "ready")
    assert [model.rank for model in setup.slots.models] == [5]


@pytest.mark.parametrize(
    ("stream", "frames", "streamed"), [(True, 40, True), (True, 2, False), (False, 40, False)]
)
async def test_a_stream_has_many_frames(
    bus: FakeBus, stream: bool, frames: int, streamed: bool
) -> None:
    attempt = Attempt(bus, fakes.HOLDER, replace(fakes.job(), stream=stream), fakes.ack(), 1000)
    attempt.start(200, "text/event-stream")
    for _ in range(frames):
        attempt.data(b"x")
    attempt.end(End(1, 40, 0, 100))
    assert attempt.ended is not None
    found = engine_slots.answer_of(attempt, attempt.ended)
    assert (found.streamed, found.first, found.last) == (streamed, attempt.opened, attempt.moved)
