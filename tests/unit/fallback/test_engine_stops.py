"""Whatever step an attempt is stopped in, its books are closed once; and the end comes after."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fallback import engine as engines
from fallback.credits.ledger import LedgerError, Superseded
from fallback.providers.base import NOTHING, ProviderFault, Spent, Task
from schemas import frames
from schemas.frames import Kind, Op
from schemas.jobs import ASKED
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.fallback import paused_ledger
from tests.unit.fallback.engine_doubles import COST, SPENT, Act, Double, Office, answers, fails
from tests.unit.fallback.paused_ledger import Gated, Used
from workers.attempt import Reason, Withdrawn
from workers.engines.base import EngineFault, Sink
from workers.runner import Runner

EVENTS = "text/event-stream"
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
DESERTED = (Reason.CANCELLED, Reason.GONE, Reason.ORPHANED)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_PAUSE", 0.0)


def _office(bus: FakeBus, book: Gated, *acts: Act) -> Office:
    office = Office(bus, Double("a", *acts))
    office.book = office.engine._till._ledger = book  # type: ignore[assignment]
    return office


def _hanging(book: Gated) -> Act:
    async def hangs(task: Task, sink: Sink) -> Spent:
        task.meter.counter = Used(SPENT)
        book.reached.set()
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

    book = Gated(stops="release" if at == "refused" else at)
    acts = {"call": _hanging(book), "refused": refuses}
    office = _office(bus, book, acts.get(at, answers))
    attempt = office.attempt(granted=at != "permitted")
    attempt.task = running = asyncio.create_task(office.run(attempt))  # type: ignore[assignment]
    if at == "permitted":
        while not book.log:
            await asyncio.sleep(0)
    else:
        await book.reached.wait()
    attempt.stop(Withdrawn(why))
    await paused_ledger.ended(running)
    if at == "reserve":
        book.goes_on.set()
    await office.engine.close()
    paid = at == "settle" or (at == "call" and why in DESERTED)
    assert book.owed == ["charge" if paid else "release"]
    assert office.engine.desks["a"].busy == 0
    assert not office.engine.desks["a"].places.locked()


async def test_stopped_between_two_calls_nothing_is_paid(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the provider that failed may have begun is not the client's."""
    monkeypatch.setattr(engines, "_PAUSE", 5.0)
    book = Gated()
    office = _office(bus, book, fails(spent=SPENT))
    attempt = office.attempt()
    attempt.task = running = asyncio.create_task(office.run(attempt))  # type: ignore[assignment]
    while not office.engine.desks["a"].breaker.row:
        await asyncio.sleep(0)
    attempt.stop(Withdrawn(Reason.CANCELLED))
    await paused_ledger.ended(running)
    await office.engine.close()
    assert book.log[1][0] == "release: cancelled"
    assert len(book.log) == 2


async def test_one_stopped_while_it_tries_a_provider_that_failed_lets_the_next_try(
    bus: FakeBus,
) -> None:
    book = Gated()
    office = _office(bus, book, _hanging(book), answers)
    breaker = office.engine.desks["a"].breaker
    breaker.row, breaker.until = breaker.failures, 0.0
    attempt = office.attempt()
    attempt.task = running = asyncio.create_task(office.run(attempt))  # type: ignore[assignment]
    await book.reached.wait()
    assert not breaker.admit(asyncio.get_running_loop().time())
    attempt.stop(Withdrawn(Reason.CANCELLED))
    await paused_ledger.ended(running)
    await office.run(office.attempt(id="e" * 32))
    assert breaker.state(0.0) == "closed"


async def test_a_fault_of_ours_gives_the_money_back(bus: FakeBus) -> None:
    async def stumbles(task: Task, sink: Sink) -> Spent:
        raise ZeroDivisionError

    office = _office(bus, Gated(), stumbles)
    with pytest.raises(ZeroDivisionError):
        await office.run(office.attempt())
    await office.engine.close()
    assert office.book.log[1][0] == "release: failed"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_call_that_breaks(bus: FakeBus, streams: bool) -> None:
    """In a stream it is the end; an answer that nobody saw a byte of is another's to give."""

    async def breaks(task: Task, sink: Sink) -> Spent:
        sink.start(200, EVENTS if streams else "application/json")
        sink.data(TOKEN if streams else b'{"half')
        spent = Spent(prompt=3, completion=1)
        raise ProviderFault("cut off", "failed", started=True, spent=spent)

    office = _office(bus, Gated(), breaks, answers)
    attempt = office.attempt(stream=streams)
    if not streams:
        await office.run(attempt)
        assert office.book.log[1] == ("charge", COST)
        return
    with pytest.raises(EngineFault) as caught:
        await office.run(attempt)
    assert (caught.value.code, caught.value.retryable) == ("stream_broken", False)
    assert office.book.log[1:] == [("charge", 5)]
    assert office.engine.desks["a"].breaker.row == 1


@pytest.mark.parametrize("refuses", ["settle", "release"])
async def test_books_that_are_away_at_the_end_do_not_take_the_answer(
    bus: FakeBus, refuses: str
) -> None:
    async def rejects(task: Task, sink: Sink) -> Spent:
        sink.start(400, "application/json")
        sink.data(b"{}")
        return NOTHING

    act = answers if refuses == "settle" else rejects
    office = _office(bus, Gated(refuses=(refuses,)), act)
    await office.run(office.attempt())
    assert await office.sent() == [Kind.NOTE, Kind.START, Kind.DATA]


class Ending:
    """The runner's own view: a job delivered, its claim granted, its verdict."""

    def __init__(self, bus: FakeBus, office: Office) -> None:
        self.bus = bus
        self.desk: Any = _Desk(office.engine)
        self.runner = Runner(bus, "fb-1", "node", Settings())
        self.finished: list[str] = []

    def take(self, **changed: object) -> None:
        job = fakes.job(**{"tags": ((ASKED, "chat"),), "claim_by": 0, **changed})
        sent = fakes.message("jobs.echo.f", job.pack(), fakes.ack())
        self.runner.take(self.desk, self, sent)

    def go(self) -> None:
        self.say(Op.GO)

    def say(self, op: Op) -> None:
        [(attempt, _)] = self.runner.running.values()
        control = frames.Control(op, attempt.job.id, attempt.nonce, None)
        self.runner._obey(attempt, control)

    def fill(self) -> None: ...

    def finish(self, ack: str) -> None:
        self.finished.append(ack)

    def kinds(self) -> list[Kind]:
        posts = [post for post in self.bus.posts if not post.subject.startswith("$JS")]
        return [Kind(frame.kind) for post in posts for frame in frames.unpack(post.payload)]


class _Desk:
    def __init__(self, engine: object) -> None:
        self.engine = engine

    def take(self) -> None: ...
    def release(self) -> None: ...
    def suspect(self, fault: EngineFault) -> None: ...


@pytest.mark.parametrize("stream", [True, False])
async def test_the_end_comes_after_the_books_are_closed(bus: FakeBus, stream: bool) -> None:
    async def serves(task: Task, sink: Sink) -> Spent:
        sink.start(200, EVENTS if stream else "application/json")
        sink.data(TOKEN)
        return SPENT

    free = asyncio.Event()

    class Slow(Gated):
        async def settle(self, *what: object) -> bool:
            self.reached.set()
            await free.wait()
            return await super().settle(*what)  # type: ignore[arg-type]

    book = Slow()
    ending = Ending(bus, _office(bus, book, serves))
    ending.take(stream=stream)
    while not book.log:
        await asyncio.sleep(0)
    assert ending.kinds() == [Kind.CLAIM]
    ending.go()
    await book.reached.wait()
    await fakes.turns()
    assert ending.kinds() == [Kind.CLAIM, Kind.NOTE, Kind.START, Kind.DATA]
    free.set()
    await ending.runner.idle.wait()
    assert ending.kinds()[-1] == Kind.END
    assert ending.finished == [fakes.ack()]
    assert ending.kinds().count(Kind.DATA) == (2 if stream else 1)


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
    book = Gated()
    office = _office(bus, book, _hanging(book))
    ending = Ending(bus, office)
    ending.take()
    while not book.log:
        await asyncio.sleep(0)
    ending.go()
    await book.reached.wait()
    ending.say(word)
    await ending.runner.idle.wait()
    await office.engine.close()
    what, cost = book.log[-1]
    assert (what, cost if what == "charge" else None) == entry


async def test_one_that_a_later_holder_outranked_says_nothing_of_an_answer(bus: FakeBus) -> None:
    office = _office(bus, Gated())
    office.book.fault = Superseded("later")
    ending = Ending(bus, office)
    ending.take()
    await ending.runner.idle.wait()
    assert ending.kinds() == [Kind.CLAIM, Kind.FAIL]
    assert bus.to(fakes.ack()) == []
    assert ending.finished == []


async def test_a_job_of_a_route_that_is_not_known_here_ends(bus: FakeBus) -> None:
    """On the providers' own lane nobody else would take it."""
    office = _office(bus, Gated())
    ending = Ending(bus, office)
    ending.take(lane="f", tags=((ASKED, "elsewhere"),))
    await ending.runner.idle.wait()
    assert bus.to(fakes.ack()) == [b"+TERM"]
    assert office.book.log == []


async def test_the_answers_cost_is_that_of_the_books(bus: FakeBus) -> None:
    """Where another holder has been charged, this answer is for nothing, and says so."""

    class Yields(Gated):
        async def settle(self, *_: object) -> bool:
            return False

    office = _office(bus, Yields())
    await office.run(office.attempt())
    await asyncio.sleep(0)
    notes = [f.body for p in bus.posts for f in frames.unpack(p.payload) if f.kind == Kind.NOTE]
    assert dict(notes[-1])["x-headrace-cost"] == "0.000000 USD"


async def test_books_away_from_the_start_leave_no_trace(bus: FakeBus) -> None:
    office = _office(bus, Gated())
    office.book.fault = LedgerError("away")
    with pytest.raises(EngineFault):
        await office.run(office.attempt())
    assert (office.book.log, await office.sent()) == ([], [])
