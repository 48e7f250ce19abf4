from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas import settings
from schemas.bus import BusError, Message
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import ServedModel
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers import engine_slots as desks
from workers.engine_slots import EngineDesk
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
        self.away: str = ""
        self.turns = True
        self.probes = 0
        self.slots = 2
        self.models: tuple[str, ...] = ("m",)
        self.better: Offer | None = None

    async def discover(self) -> Offer:
        if self.away:
            raise EngineFault(self.away, early=self.early)
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


class Case:
    """A desk, and the states that it moved through."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.engine = Engine()
        self.states: list[str] = []
        self.taken: list[Message] = []
        self._news = asyncio.Event()
        runner = Runner(bus, "w-1", "node", Settings())
        self.desk = EngineDesk(bus, runner, self.engine, ECHO, Settings(), self._changed)
        runner.take = self._take  # type: ignore[method-assign]

    def _changed(self) -> None:
        self.states.append(self.desk.state.state)
        self._news.set()

    def _take(self, desk: Any, source: Any, message: Message) -> None:
        self.taken.append(message)
        desk.take()

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
    monkeypatch.setattr(desks, "_BACKOFF", 0.001)


@pytest.fixture
async def case(bus: FakeBus) -> AsyncIterator[Case]:
    made = Case(bus)
    yield made
    await made.desk.drain()


async def test_a_good_engine_is_found_checked_and_pulls(case: Case) -> None:
    assert case.desk.state.state == "stopped"
    case.desk.start()
    await case.until("starting", "ready")
    assert case.desk.ready
    assert case.desk.state.slots == 2
    assert [model.id for model in case.desk.models] == ["m"]
    assert [verb for verb, _ in case.bus.api_calls] == ["CONSUMER.CREATE.JOBS.m-i.jobs.m.i"]
    assert case.pulls() == ["$JS.API.CONSUMER.MSG.NEXT.JOBS.m-i"] * 2
    assert b'"priority":2' in case.bus.posts[0].payload


async def test_what_its_check_tells_of_its_models_counts(case: Case) -> None:
    case.engine.better = Offer(3, (ServedModel("m", "e", "fake", 3, 2048),))
    case.desk.start()
    await case.until("starting", "ready")
    assert [(model.context, case.desk.state.slots) for model in case.desk.models] == [(2048, 3)]


async def test_an_engine_that_is_away_is_looked_for(case: Case) -> None:
    case.engine.away = "cannot be reached"
    case.desk.start()
    await case.until("starting", "failed")
    assert case.desk.state.reason == "cannot be reached"
    assert (case.pulls(), case.desk.ready) == ([], False)
    case.engine.away = ""
    await case.until("starting", "failed", "ready")
    assert case.desk.state.reason == ""


async def test_an_engine_that_loads_is_starting_and_says_what_it_lacks(case: Case) -> None:
    case.engine.away, case.engine.early = "loading the model", True
    case.desk.start()
    await case.until("starting")
    async with asyncio.timeout(fakes.PATIENCE):
        while not case.desk.state.reason:
            await fakes.turns()
    assert case.desk.state.reason == "loading the model"
    case.engine.away = ""
    await case.until("starting", "ready")
    assert case.desk.state.reason == ""


async def test_a_program_that_ends_is_a_doubt_at_once(bus: FakeBus) -> None:
    config = settings.Engine(name="e", command=["x", "{port}"])
    engine = Supervised(config, lambda _: Engine())
    runner = Runner(bus, "w-1", "node", Settings())
    desk = EngineDesk(bus, runner, engine, config, Settings(), lambda: None)
    desk._state = "ready"
    engine.on_end(EngineFault("killed by SIGKILL", away=True))
    assert (desk.state.state, desk.state.reason) == ("failed", "killed by SIGKILL")
    assert desk._free() == 0


async def test_an_engine_that_fails_its_check_does_not_pull(case: Case) -> None:
    case.engine.faults = ["a small job failed"] * 3
    case.desk.start()
    await case.until("starting", "failed", "ready")
    assert case.engine.faults == []
    assert len(case.pulls()) == 2


async def test_a_broker_that_fails_meanwhile_is_waited_for(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe, faults = case.bus.subscribe, [BusError("closed")]

    async def fail_once(*arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return await subscribe(*arguments)

    monkeypatch.setattr(case.bus, "subscribe", fail_once)
    case.desk.start()
    await case.until("starting", "failed", "ready")
    assert len(case.pulls()) == 2


async def test_in_doubt_it_stops_pulling_until_it_passed_its_check(case: Case) -> None:
    case.desk.start()
    await case.until("starting", "ready")
    case.bus.posts.clear()
    inbox = case.bus.subscriptions[0]
    case.engine.faults = ["still broken"]
    case.desk.suspect(EngineFault("connection refused", away=True))
    assert case.desk.state.reason == "connection refused"
    inbox.handler(fakes.message(inbox.subject, b"job", fakes.ack()))
    assert (case.taken, case.bus.to(fakes.ack())) == ([], [b"-NAK"])
    await case.until("starting", "ready", "failed", "ready")
    assert len(case.bus.subscriptions) == 1
    assert case.bus.subscriptions[0].subject != inbox.subject


async def test_a_fault_of_one_job_raises_no_doubt(case: Case) -> None:
    case.desk.start()
    await case.until("starting", "ready")
    case.desk.suspect(EngineFault("this one failed"))
    await fakes.turns()
    assert case.desk.ready


async def test_a_doubt_before_it_is_ready_changes_nothing(case: Case) -> None:
    case.desk.suspect(EngineFault("away", away=True))
    assert case.states == []


async def test_an_idle_engine_is_looked_at(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "_IDLE_PROBE", 0.001)
    case.desk.start()
    await case.until("starting", "ready")
    case.engine.turns = False
    await case.until("starting", "ready", "failed")
    assert "does not answer" in case.desk.state.reason
    assert case.engine.probes >= 1


async def test_a_busy_engine_is_not(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.desk.start()
    await case.until("starting", "ready")
    monkeypatch.setattr(desks, "_IDLE_PROBE", 0)
    case.desk.take()
    case.engine.turns = False
    serving = asyncio.create_task(case.desk._serve())
    await fakes.turns(50)
    assert (case.desk.ready, case.engine.probes) == (True, 0)
    serving.cancel()


async def test_jobs_take_slots_that_all_its_models_share(case: Case) -> None:
    case.engine.models = ("m", "n")
    case.desk.start()
    await case.until("starting", "ready")
    one, other = case.bus.subscriptions
    for inbox in (one, one, other):
        inbox.handler(fakes.message(inbox.subject, b"job", fakes.ack()))
    assert (len(case.taken), case.desk.state.busy) == (2, 2)
    assert case.bus.to(fakes.ack()) == [b"-NAK"]
    case.desk.release()
    assert case.desk.state.busy == 1


async def test_on_a_new_connection_it_pulls_afresh(case: Case) -> None:
    await case.desk.reopen()
    assert case.pulls() == []
    case.desk.start()
    await case.until("starting", "ready")
    await case.desk.reopen()
    assert len(case.pulls()) == 4
    case.desk.heal(1e9)
    assert len(case.pulls()) == 6


async def test_drained_it_pulls_no_more_and_stays_so(case: Case) -> None:
    case.desk.start()
    await case.until("starting", "ready")
    await case.desk.drain()
    assert case.bus.subscriptions == []
    case.desk.suspect(EngineFault("away", away=True))
    await fakes.turns()
    assert case.states == ["starting", "ready", "stopping"]


async def test_drained_while_it_looks_for_its_engine(case: Case) -> None:
    case.engine.away = "cannot be reached"
    case.desk.start()
    await case.until("starting", "failed")
    await case.desk.drain()
    case.engine.away = ""
    await fakes.turns(20)
    assert case.states[-1] == "stopping"
    assert case.pulls() == []
