"""Whatever step an attempt is stopped in, its books are closed once; and the end comes after."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fallback import engine as engines
from fallback.cost.spent import NOTHING, Spent
from fallback.credits.faults import LedgerError, Superseded
from fallback.providers.base import ProviderFault, Task
from schemas import frames
from schemas.frames import Kind, Op, Role
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.fallback import paused_ledger
from tests.unit.fallback.engine_doubles import (
    COST,
    SPENT,
    Act,
    EngineSetup,
    FakeProvider,
    answers,
)
from tests.unit.fallback.paused_ledger import PausedLedger, Used
from workers.cancellation import Reason, Withdrawn
from workers.engines.base import EngineFault, Sink
from workers.runner import Runner

EVENTS = "text/event-stream"
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
DESERTED = (Reason.CANCELLED, Reason.GONE, Reason.ORPHANED)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_PAUSE", 0.0)


def _setup(bus: FakeBus, ledger: PausedLedger, *acts: Act) -> EngineSetup:
    setup = EngineSetup(bus, FakeProvider("a", *acts))
    setup.ledger = setup.engine._billing._ledger = ledger  # type: ignore[assignment]
    return setup


def _hanging(ledger: PausedLedger) -> Act:
    async def hangs(task: Task, sink: Sink) -> Spent:
        task.counter = Used(SPENT)
        ledger.reached.set()
        await asyncio.Event().wait()
        return NOTHING

    return hangs


@pytest.mark.parametrize("why", Reason)
@pytest.mark.parametrize("at", ["reserve", "permitted", "call", "settle", "refused"])
async def test_stopped_at_any_step_the_books_are_closed_once(
    bus: FakeBus, at: str, why: Reason
) -> None:
    """At `reserve` it is not known what is written: it is given back once it stands."""

    async def refuses(task: Task, sink: Sink) -> Spent:
        sink.start(400, "application/json")
        return NOTHING

    ledger = PausedLedger(stops="release" if at == "refused" else at)
    acts = {"call": _hanging(ledger), "refused": refuses}
    setup = _setup(bus, ledger, acts.get(at, answers))
    attempt = setup.attempt(granted=at != "permitted")
    attempt.task = running = asyncio.create_task(setup.run(attempt))  # type: ignore[assignment]
    if at == "permitted":
        while not ledger.log:
            await asyncio.sleep(0)
    else:
        await ledger.reached.wait()
    attempt.stop(Withdrawn(why))
    await paused_ledger.ended(running)
    if at == "reserve":
        ledger.goes_on.set()
    await setup.engine.close()
    paid = at == "settle" or (at == "call" and why in DESERTED)
    assert ledger.owed == ["charge" if paid else "release"]
    assert setup.engine.providers["a"].busy == 0
    assert not setup.engine.providers["a"].free.locked()


async def test_stopped_between_two_calls_nothing_is_paid(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the provider that failed may have begun is not the client's."""
    monkeypatch.setattr(engines, "_PAUSE", 5.0)

    async def begins_and_fails(task: Task, sink: Sink) -> Spent:
        task.counter = Used(SPENT)
        raise ProviderFault("it broke", "failed")

    ledger = PausedLedger()
    setup = _setup(bus, ledger, begins_and_fails)
    attempt = setup.attempt()
    attempt.task = running = asyncio.create_task(setup.run(attempt))  # type: ignore[assignment]
    while not setup.engine.providers["a"].breaker.row:
        await asyncio.sleep(0)
    attempt.stop(Withdrawn(Reason.CANCELLED))
    await paused_ledger.ended(running)
    await setup.engine.close()
    assert ledger.log[1][0] == "release: cancelled"
    assert len(ledger.log) == 2


async def test_one_stopped_while_it_tries_a_provider_that_failed_lets_the_next_try(
    bus: FakeBus,
) -> None:
    ledger = PausedLedger()
    setup = _setup(bus, ledger, _hanging(ledger), answers)
    breaker = setup.engine.providers["a"].breaker
    breaker.trip(0.0, 0.0, "failed")
    attempt = setup.attempt()
    attempt.task = running = asyncio.create_task(setup.run(attempt))  # type: ignore[assignment]
    await ledger.reached.wait()
    assert not breaker.admit(asyncio.get_running_loop().time())
    attempt.stop(Withdrawn(Reason.CANCELLED))
    await paused_ledger.ended(running)
    await setup.run(setup.attempt(id="e" * 32))
    assert breaker.state(0.0) == "closed"


async def test_a_fault_of_ours_gives_the_money_back(bus: FakeBus) -> None:
    async def stumbles(task: Task, sink: Sink) -> Spent:
        raise ZeroDivisionError

    setup = _setup(bus, PausedLedger(), stumbles)
    with pytest.raises(ZeroDivisionError):
        await setup.run(setup.attempt())
    await setup.engine.close()
    assert setup.ledger.log[1][0] == "release: failed"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_call_that_breaks(bus: FakeBus, streams: bool) -> None:
    """In a stream it is the end; an answer that nobody saw a byte of is another's to give."""

    async def breaks(task: Task, sink: Sink) -> Spent:
        sink.start(200, EVENTS if streams else "application/json")
        sink.data(TOKEN if streams else b'{"half')
        task.counter = Used(Spent(prompt=3, completion=1))
        raise ProviderFault("cut off", "failed")

    setup = _setup(bus, PausedLedger(), breaks, answers)
    attempt = setup.attempt(stream=streams)
    if not streams:
        await setup.run(attempt)
        assert setup.ledger.log[1] == ("charge", COST)
        return
    with pytest.raises(EngineFault) as caught:
        await setup.run(attempt)
    assert (caught.value.code, caught.value.retryable) == ("stream_interrupted", False)
    assert setup.ledger.log[1:] == [("charge", 5)]
    assert setup.engine.providers["a"].breaker.row == 1


@pytest.mark.parametrize("refuses", ["settle", "release"])
async def test_books_that_are_away_at_the_end_do_not_take_the_answer(
    bus: FakeBus, refuses: str
) -> None:
    async def rejects(task: Task, sink: Sink) -> Spent:
        sink.start(400, "application/json")
        sink.data(b"{}")
        return NOTHING

    act = answers if refuses == "settle" else rejects
    setup = _setup(bus, PausedLedger(refuses=(refuses,)), act)
    await setup.run(setup.attempt())
    assert await setup.sent() == [Kind.NOTE, Kind.START, Kind.DATA]


class RunnerSetup:
    """The runner's own view: a job delivered, its claim granted, its verdict."""

    def __init__(self, bus: FakeBus, setup: EngineSetup) -> None:
        self.bus = bus
        self.slots: Any = _Slots(setup.engine)
        self.runner = Runner(bus, Role.FALLBACK, fakes.HOLDER, "node", Settings())
        self.finished: list[str] = []

    def take(self, **changed: object) -> None:
        job = fakes.job(**{"asked": "chat", "lane": "f", **changed})
        sent = fakes.message("jobs.echo.f", job.pack(), fakes.ack())
        self.runner.take(self.slots, self, sent)

    def go(self) -> None:
        self.say(Op.GO)

    def say(self, op: Op) -> None:
        [(attempt, _)] = self.runner.running.values()
        control = frames.Control(op, attempt.job.id, attempt.nonce, 0)
        self.runner._obey(attempt, control)

    def fill(self) -> None: ...

    def finish(self, ack: str) -> None:
        self.finished.append(ack)

    def kinds(self) -> list[Kind]:
        posts = [post for post in self.bus.posts if not post.subject.startswith("$JS")]
        return [Kind(frame.kind) for post in posts for frame in frames.unpack(post.payload)]


class _Slots:
    def __init__(self, engine: object) -> None:
        self.engine = engine

    def take(self) -> None: ...
    def free(self) -> int:
        return 0

    def release(self) -> None: ...
    def suspect(self, fault: EngineFault) -> None: ...


@pytest.mark.parametrize("stream", [True, False])
async def test_the_end_comes_after_the_books_are_closed(bus: FakeBus, stream: bool) -> None:
    async def serves(task: Task, sink: Sink) -> Spent:
        sink.start(200, EVENTS if stream else "application/json")
        sink.data(TOKEN)
        return SPENT

    free = asyncio.Event()

    class Slow(PausedLedger):
        async def settle(self, *what: object) -> bool:
            self.reached.set()
            await free.wait()
            return await super().settle(*what)  # type: ignore[arg-type]

    ledger = Slow()
    running = RunnerSetup(bus, _setup(bus, ledger, serves))
    running.take(stream=stream)
    while not ledger.log:
        await asyncio.sleep(0)
    assert running.kinds() == [Kind.CLAIM]
    running.go()
    await ledger.reached.wait()
    await fakes.turns()
    assert running.kinds() == [Kind.CLAIM, Kind.NOTE, Kind.START, Kind.DATA]
    free.set()
    await running.runner.idle.wait()
    assert running.kinds()[-1] == Kind.END
    assert running.finished == [fakes.ack()]
    assert running.kinds().count(Kind.DATA) == (2 if stream else 1)


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        (Op.CANCEL, ("charge", COST)),
        (Op.GONE, ("charge", COST)),
        (Op.DROP, ("release: dropped", None)),
        (Op.LEAVE, ("release: left", None)),
    ],
)
async def test_what_the_ingress_says_decides_who_pays(
    bus: FakeBus, word: Op, entry: tuple[str, int | None]
) -> None:
    """From the word on the wire to the entry in the books."""
    ledger = PausedLedger()
    setup = _setup(bus, ledger, _hanging(ledger))
    running = RunnerSetup(bus, setup)
    running.take()
    while not ledger.log:
        await asyncio.sleep(0)
    running.go()
    await ledger.reached.wait()
    running.say(word)
    await running.runner.idle.wait()
    await setup.engine.close()
    what, cost = ledger.log[-1]
    assert (what, cost if what == "charge" else None) == entry


async def test_one_that_a_later_holder_outranked_says_nothing_of_an_answer(bus: FakeBus) -> None:
    setup = _setup(bus, PausedLedger())
    setup.ledger.fault = Superseded("later")
    running = RunnerSetup(bus, setup)
    running.take()
    await running.runner.idle.wait()
    assert running.kinds() == [Kind.CLAIM, Kind.FAIL]
    assert bus.to(fakes.ack()) == []
    assert running.finished == []


async def test_a_job_of_a_route_that_is_not_known_here_ends(bus: FakeBus) -> None:
    """On the providers' own lane nobody else would take it."""
    setup = _setup(bus, PausedLedger())
    running = RunnerSetup(bus, setup)
    running.take(lane="f", asked="elsewhere")
    await running.runner.idle.wait()
    assert bus.to(fakes.ack()) == [b"+TERM"]
    assert setup.ledger.log == []


async def test_the_answers_cost_is_that_of_the_books(bus: FakeBus) -> None:
    """Where another holder has been charged, this answer is for nothing, and says so."""

    class Yields(PausedLedger):
        async def settle(self, *_: object) -> bool:
            return False

    setup = _setup(bus, Yields())
    await setup.run(setup.attempt())
    await asyncio.sleep(0)
    notes = [f.body for p in bus.posts for f in frames.unpack(p.payload) if f.kind == Kind.NOTE]
    assert dict(notes[-1])["x-headrace-cost"] == "0.000000 USD"


async def test_books_away_from_the_start_leave_no_trace(bus: FakeBus) -> None:
    setup = _setup(bus, PausedLedger())
    setup.ledger.fault = LedgerError("away")
    with pytest.raises(EngineFault):
        await setup.run(setup.attempt())
    assert (setup.ledger.log, await setup.sent()) == ([], [])
