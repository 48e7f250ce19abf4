from __future__ import annotations

import asyncio

import pytest

from ingress.jobs import usage as counters
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.ticket import Ticket
from schemas import usage
from schemas.bus import BusError
from schemas.frames import Frame
from schemas.settings import Settings
from schemas.usage import Served
from tests.unit.fakes import FakeBus
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import START, FallbackHolder, Holder, RecordedEffects

A = Holder("a", 1)
FB = FallbackHolder("fb", 1)
DAY = 20_000 * 86_400.0
WHOLE = (A.claim(), A.start(), A.data(1, b"x"), A.end(2))


@pytest.fixture(autouse=True)
def day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.jobs.dispatch.time.time", lambda: DAY + 5)


def ticket(*frames: Frame, key: str = "k1") -> Ticket:
    made = recorder.ticket(RecordedEffects(), key=key)
    for frame in frames:
        made.frame(frame, START)
    return made


def close(dispatch: Dispatch, ticket: Ticket) -> None:
    dispatch.tickets[ticket.job.id] = ticket
    dispatch.close(ticket)


async def test_answers_of_one_model_are_one_row(bus: FakeBus) -> None:
    dispatch = Dispatch(bus, "in-1", Settings())
    for _ in range(3):
        close(dispatch, ticket(*WHOLE))
    await dispatch.usage.flush()
    [sent] = bus.puts
    assert (sent.subject, sent.headers) == ("usage.in-1-0", {"Nats-Rollup": "sub"})
    [row] = usage.unpack(sent.payload)
    assert row == Served("2024-10-04", "acme", "k1", "echo", "node-a", 3, 9, 12, 0, 0.15)
    await dispatch.usage.flush()
    assert len(bus.puts) == 1, "nothing was counted since"


@pytest.mark.parametrize(
    "frames",
    [
        WHOLE[:3],
        (A.claim(), A.start(status=400), A.end(1)),
        (FB.claim(), FB.start(), FB.end(1)),
    ],
    ids=["not whole", "refused", "of a provider"],
)
async def test_what_is_not_counted(bus: FakeBus, frames: tuple[Frame, ...]) -> None:
    dispatch = Dispatch(bus, "in-1", Settings())
    made = ticket()
    made.offer(START)
    for frame in frames:
        made.frame(frame, START)
    close(dispatch, made)
    await dispatch.usage.flush()
    assert not bus.puts


async def test_what_the_broker_does_not_take_is_kept(bus: FakeBus) -> None:
    dispatch = Dispatch(bus, "in-1", Settings())
    close(dispatch, ticket(*WHOLE))
    bus.put_fault = BusError("away")
    await dispatch.usage.flush()
    bus.put_fault = None
    close(dispatch, ticket(*WHOLE))
    await dispatch.usage.flush()
    [row] = usage.unpack(bus.puts[0].payload)
    assert row.requests == 2


async def test_many_rows_are_several_messages(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "MOST", 2)
    dispatch = Dispatch(bus, "in-1", Settings())
    for number in range(5):
        close(dispatch, ticket(*WHOLE, key=f"k{number}"))
    await dispatch.usage.flush()
    sent = [(each.subject, len(usage.unpack(each.payload))) for each in bus.puts]
    assert sent == [("usage.in-1-0", 2), ("usage.in-1-1", 2), ("usage.in-1-2", 1)]


async def test_a_message_has_the_sums_of_its_window_so_far(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = Dispatch(bus, "in-1", Settings())
    for _ in range(3):
        close(dispatch, ticket(*WHOLE))
        await dispatch.usage.flush()
        if len(bus.puts) == 2:
            monkeypatch.setattr(counters, "WINDOW", 0.0)
    close(dispatch, ticket(*WHOLE))
    await dispatch.usage.flush()
    sent = [(each.subject, usage.unpack(each.payload)[0].requests) for each in bus.puts]
    assert sent == [(f"usage.in-1-{window}", n) for window, n in ((0, 1), (0, 2), (0, 3), (1, 1))]


async def test_an_answer_is_handed_over_without_being_asked_for(bus: FakeBus) -> None:
    dispatch = Dispatch(bus, "in-1", Settings())
    running = asyncio.create_task(dispatch.usage.run())
    close(dispatch, ticket(*WHOLE))
    while not bus.puts:
        await asyncio.sleep(0)
    running.cancel()
