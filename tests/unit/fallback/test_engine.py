from __future__ import annotations

import asyncio
import contextlib

import orjson
import pytest

from fallback import engine as engines
from fallback.cost.spent import NOTHING, Spent
from fallback.credits.faults import LedgerError, Superseded
from fallback.providers.base import ProviderFault, Task
from schemas import subjects
from schemas.frames import Kind
from tests.unit.fakes import FakeBus
from tests.unit.fallback.engine_doubles import (
    COST,
    SPENT,
    EngineSetup,
    FakeProvider,
    answers,
    fails,
)
from tests.unit.fallback.paused_ledger import Used
from workers.attempt import Attempt
from workers.cancellation import Reason, Withdrawn
from workers.engines.base import EngineFault, Sink


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_PAUSE", 0.001)


async def test_an_answer_is_reserved_called_charged_and_ended(bus: FakeBus) -> None:
    provider = FakeProvider("a")
    setup = EngineSetup(bus, provider)
    end = await setup.run(setup.attempt())
    assert (end.prompt_tokens, end.completion_tokens) == (10, 5)
    [(first, most), (second, cost)] = setup.ledger.log
    assert (first, second, cost) == ("reserve", "charge", COST)
    assert most >= cost
    assert await setup.sent() == [Kind.NOTE, Kind.START, Kind.DATA]
    limit = orjson.loads(provider.calls[0].body)["max_tokens"]
    assert (limit, provider.calls[0].request["max_tokens"], provider.calls[0].model) == (
        4096,
        4096,
        "m",
    )


class PlainDelivery:
    """No more than `fallback.attempt.Delivery` says."""

    turn = (5, 1)
    stopped: Exception | None = None

    def __init__(self) -> None:
        self.permitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.permitted.set_result(None)
        self.said: list[object] = []

    def note(self, *pairs: tuple[str, str]) -> None:
        self.said.append(dict(pairs)["x-headrace-served-by"])

    def start(self, status: int, content_type: str) -> None:
        self.said.append(status)

    def data(self, chunk: bytes) -> None:
        self.said.append(chunk)

    def touch(self) -> None: ...
    async def settle(self) -> None: ...


async def test_a_delivery_needs_to_be_no_more_than_it_says(bus: FakeBus) -> None:
    setup = EngineSetup(bus, FakeProvider("a"))
    delivery = PlainDelivery()
    job = setup.attempt().job
    await setup.engine.run(job, job.body, delivery)
    assert delivery.said == ["provider:a", 200, b"{}"]


async def test_nobody_is_called_before_the_claim_is_granted(bus: FakeBus) -> None:
    provider = FakeProvider("a")
    setup = EngineSetup(bus, provider)
    attempt = setup.attempt(granted=False)
    running = asyncio.create_task(setup.run(attempt))
    while not setup.ledger.log:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (provider.calls, setup.ledger.log[0][0]) == ([], "reserve")
    attempt.permitted.set_result(None)
    await running
    assert len(provider.calls) == 1


async def test_a_claim_that_is_refused_gives_the_money_back(bus: FakeBus) -> None:
    provider = FakeProvider("a")
    setup = EngineSetup(bus, provider)
    attempt = setup.attempt(granted=False)
    attempt.task = running = asyncio.create_task(setup.run(attempt))  # type: ignore[assignment]
    while not setup.ledger.log:
        await asyncio.sleep(0)
    attempt.stop(Withdrawn(Reason.LEFT))
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await setup.ledger.closed.wait()
    assert setup.ledger.log[1][0] == "release: left"
    assert not provider.calls


@pytest.mark.parametrize("reason", ["failed", "away", "busy", "key", "absent"])
async def test_the_next_provider_answers(bus: FakeBus, reason: str) -> None:
    first, second = FakeProvider("a", fails(reason)), FakeProvider("b")
    setup = EngineSetup(bus, first, second)
    await setup.run(setup.attempt())
    assert (len(first.calls), len(second.calls)) == (1, 1)
    assert [what for what, _ in setup.ledger.log] == ["reserve", "charge"]


async def test_one_that_comes_round_is_asked_again(bus: FakeBus) -> None:
    only = FakeProvider("a", fails(), answers)
    setup = EngineSetup(bus, only)
    await setup.run(setup.attempt())
    assert len(only.calls) == 2


@pytest.mark.parametrize(
    ("lane", "retryable"), [(subjects.INTERACTIVE, True), (subjects.CLOUD, False)]
)
async def test_when_none_is_left_it_says_who_said_what(
    bus: FakeBus, lane: str, retryable: bool
) -> None:
    setup = EngineSetup(bus, FakeProvider("a", fails()), FakeProvider("b", fails()))
    with pytest.raises(EngineFault, match="a: it broke; b: it broke") as caught:
        await setup.run(setup.attempt(lane=lane))
    assert (caught.value.code, caught.value.retryable) == ("provider_failed", retryable)
    await setup.ledger.closed.wait()
    assert [what.partition(":")[0] for what, _ in setup.ledger.log] == ["reserve", "release"]


async def test_an_open_breaker_spares_a_provider(bus: FakeBus) -> None:
    first, second = FakeProvider("a", fails()), FakeProvider("b")
    setup = EngineSetup(bus, first, second)
    for _ in range(4):
        await setup.run(setup.attempt())
    assert (len(first.calls), len(second.calls)) == (2, 4)
    states = {state.name: state.state for state in setup.engine.states()}
    assert states == {"a": "failed", "b": "ready"}


async def test_a_model_that_a_provider_has_not_is_asked_for_once_and_breaks_nothing(
    bus: FakeBus,
) -> None:
    only = FakeProvider("a", fails("absent"))
    setup = EngineSetup(bus, only)
    for count in (1, 2, 3, 4):
        with pytest.raises(EngineFault, match="a: it broke"):
            await setup.run(setup.attempt(id=f"{count:032x}", lane=subjects.CLOUD))
        assert len(only.calls) == count
    assert [state.state for state in setup.engine.states()] == ["ready"]


async def test_a_full_provider_is_passed_over(bus: FakeBus) -> None:
    gate = asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Spent:
        await gate.wait()
        return await answers(task, sink)

    first, second = FakeProvider("a", waits), FakeProvider("b")
    setup = EngineSetup(bus, first, second)
    two = [asyncio.create_task(setup.run(setup.attempt(id=f"{n:032x}"))) for n in range(2)]
    while len(first.calls) < 2:
        await asyncio.sleep(0)
    await setup.run(setup.attempt(id="f" * 32))
    assert len(second.calls) == 1
    gate.set()
    await asyncio.gather(*two)


@pytest.mark.parametrize(("unpaid", "retryable"), [("refuse", False), ("wait", True)])
async def test_without_credits_it_says_what_it_would_have_cost(
    bus: FakeBus, unpaid: str, retryable: bool
) -> None:
    setup = EngineSetup(bus, FakeProvider("a"), unpaid=unpaid)
    setup.ledger.money = 5
    with pytest.raises(EngineFault, match=r"may cost 0\.\d+ USD .* has 0\.000005 USD") as caught:
        await setup.run(setup.attempt())
    assert (caught.value.code, caught.value.retryable) == ("insufficient_credits", retryable)
    assert setup.ledger.log == []


async def test_too_dear_is_not_asked(bus: FakeBus) -> None:
    setup = EngineSetup(bus, FakeProvider("a"), max_price="0.000001")
    with pytest.raises(EngineFault, match="max_price") as caught:
        await setup.run(setup.attempt())
    assert caught.value.code == "no_provider"


async def test_what_does_not_fit_is_not_asked(bus: FakeBus) -> None:
    first, second = FakeProvider("a"), FakeProvider("b")
    first.why = "'grammar' would be lost"
    setup = EngineSetup(bus, first, second)
    await setup.run(setup.attempt())
    second.paths = frozenset()
    with pytest.raises(EngineFault, match="a: 'grammar' would be lost; b: m has no /v1/chat"):
        await setup.run(setup.attempt())
    assert not first.calls


async def test_who_honours_the_requests_hints_is_asked_first(bus: FakeBus) -> None:
    deaf, hearing = FakeProvider("a"), FakeProvider("b")
    deaf.lost = 1
    setup = EngineSetup(bus, deaf, hearing)
    await setup.run(setup.attempt())
    assert (len(deaf.calls), len(hearing.calls)) == (0, 1)


async def test_without_a_route_here_it_is_left(bus: FakeBus) -> None:
    setup = EngineSetup(bus, FakeProvider("a"))
    with pytest.raises(EngineFault, match="no provider may have 'echo'"):
        await setup.run(setup.attempt(asked="echo"))


async def test_books_that_cannot_be_read_are_no_answer(bus: FakeBus) -> None:
    setup = EngineSetup(bus, FakeProvider("a"))
    setup.ledger.fault = LedgerError("away")
    with pytest.raises(EngineFault, match="credits cannot be reserved"):
        await setup.run(setup.attempt())


async def test_a_later_holder_has_it(bus: FakeBus) -> None:
    setup = EngineSetup(bus, FakeProvider("a"))
    setup.ledger.fault = Superseded("later")
    with pytest.raises(Withdrawn) as caught:
        await setup.run(setup.attempt())
    assert caught.value.reason is Reason.SUPERSEDED


async def test_what_was_paid_before_costs_nothing(bus: FakeBus) -> None:
    setup = EngineSetup(bus, FakeProvider("a"))
    setup.ledger.paid = True
    await setup.run(setup.attempt())
    assert setup.ledger.log[-1] == ("charge", 0)


async def test_a_refusal_costs_nothing_and_is_the_answer(bus: FakeBus) -> None:
    async def refuses(task: Task, sink: Sink) -> Spent:
        sink.start(400, "application/json")
        sink.data(b"{}")
        return NOTHING

    setup = EngineSetup(bus, FakeProvider("a", refuses), FakeProvider("b"))
    await setup.run(setup.attempt())
    assert setup.ledger.log[-1][0] == "release: refused"
    assert await setup.sent() == [Kind.NOTE, Kind.START, Kind.DATA]


async def test_a_stream_that_breaks_is_paid_as_far_as_it_came(bus: FakeBus) -> None:
    async def breaks(task: Task, sink: Sink) -> Spent:
        sink.start(200, "text/event-stream")
        sink.data(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
        task.counter = Used(Spent(prompt=10, completion=1))
        raise ProviderFault("it broke", "failed")

    second = FakeProvider("b")
    setup = EngineSetup(bus, FakeProvider("a", breaks), second)
    with pytest.raises(EngineFault, match="not complete") as caught:
        await setup.run(setup.attempt(stream=True))
    assert (caught.value.code, caught.value.retryable) == ("stream_interrupted", False)
    assert (setup.ledger.log[-1], second.calls) == (("charge", 12), [])


@pytest.mark.parametrize(
    ("why", "entry"),
    [
        (Withdrawn(Reason.CANCELLED), ("charge", COST)),
        (Withdrawn(Reason.GONE), ("charge", COST)),
        (Withdrawn(Reason.DROPPED), "release: dropped"),
        (EngineFault("the fallback was stopped"), "release: the fallback was stopped"),
    ],
)
async def test_stopped_in_the_middle(
    bus: FakeBus, why: Exception, entry: tuple[str, int] | str
) -> None:
    """The client's leaving is paid for; what another holder has now is not."""
    called = asyncio.Event()

    async def hangs(task: Task, sink: Sink) -> Spent:
        task.counter = Used(SPENT)
        called.set()
        await asyncio.Event().wait()
        return NOTHING

    setup = EngineSetup(bus, FakeProvider("a", hangs))
    attempt: Attempt = setup.attempt()
    attempt.task = running = asyncio.create_task(setup.run(attempt))  # type: ignore[assignment]
    await called.wait()
    attempt.stop(why)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await setup.ledger.closed.wait()
    last = setup.ledger.log[-1]
    assert last == entry if isinstance(entry, tuple) else last[0] == entry
    assert len(setup.ledger.log) == 2
