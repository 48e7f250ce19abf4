from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ingress.jobs import usage as counters
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.ticket import Ticket
from schemas import usage
from schemas.bus import BusError
from schemas.frames import Frame, Kind
from schemas.jobs import one_of
from schemas.settings import Settings
from schemas.usage import Served
from tests.unit.fakes import FakeBus
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import START, FallbackHolder, Holder, RecordedEffects

A = Holder("a", 1)
B = Holder("b", 2)
FB = FallbackHolder("fb", 3)
DAY = 20_000 * 86_400.0
WHOLE = (A.claim(), A.start(), A.data(1, b"x"), A.end(2))


@pytest.fixture(autouse=True)
def day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.jobs.usage.time.time", lambda: DAY + 5)


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


async def counted(
    bus: FakeBus, frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, int, float, int]]:
    """Node, whole answers, seconds of slots, and failed requests, three seconds after `frames`."""
    monkeypatch.setattr("ingress.jobs.usage.time.monotonic", lambda: START + 3)
    dispatch = Dispatch(bus, "in-1", Settings())
    made = ticket()
    for number, frame in enumerate(frames):
        if frame.kind == Kind.CLAIM:
            made.offer(START)
        made.frame(frame, START + (2 if number and frame.kind == Kind.CLAIM else 0))
    close(dispatch, made)
    await dispatch.usage.flush()
    rows = usage.unpack(bus.puts[0].payload) if bus.puts else []
    return [(row.node, row.requests, row.seconds, row.failed) for row in rows]


@pytest.mark.parametrize(
    ("frames", "rows"),
    [
        ((), []),
        ((FB.claim(), FB.start(), FB.end(1)), []),
        ((FB.claim(), FB.start()), []),
        (WHOLE[:1], [("node-a", 0, 3.0, 1)]),
        (WHOLE[:3], [("node-a", 0, 3.0, 1)]),
        ((A.claim(), A.start(status=400), A.end(1)), [("node-a", 0, 3.0, 1)]),
        ((A.claim(), A.fail(0, retryable=False)), [("node-a", 0, 3.0, 1)]),
        ((A.claim(), A.fail(0)), [("node-a", 0, 0.0, 1)]),
        (
            (A.claim(), B.claim(), B.start(), B.end(1)),
            [("node-b", 1, 0.05, 0), ("node-a", 0, 2.0, 0)],
        ),
        ((A.claim(), B.claim(), B.start()), [("node-a", 0, 2.0, 0), ("node-b", 0, 1.0, 1)]),
        ((A.claim(), FB.claim(), FB.start(), FB.end(1)), [("node-a", 0, 2.0, 0)]),
    ],
    ids=[
        "nobody had it", "of a provider", "cut at a provider", "its client left", "cut", "refused",
        "failed", "failed and not tried again", "lost by one, answered by another",
        "lost by one, cut at another", "lost to a provider",
    ],
)  # fmt: skip
async def test_slots_count_whatever_became_of_the_answer(
    bus: FakeBus,
    frames: tuple[Frame, ...],
    rows: list[tuple[str, int, float, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await counted(bus, frames, monkeypatch) == rows


async def test_pictures_and_sounds_are_counted(bus: FakeBus) -> None:
    dispatch = Dispatch(bus, "in-1", Settings())
    end = A.frame(Kind.END, 1, (-1, -1, -1, 500, 2, 30, 1500))
    close(dispatch, ticket(A.claim(), A.start(kind="image/png"), end))
    await dispatch.usage.flush()
    [row] = usage.unpack(bus.puts[0].payload)
    assert (row.prompt, row.images, row.characters, row.audio) == (0, 2, 30, 1.5)


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


async def test_several_jobs_of_one_request_count_once(bus: FakeBus) -> None:
    dispatch = Dispatch(bus, "in-1", Settings())
    for number in range(3):
        made = ticket(*WHOLE)
        made.postings.job = replace(made.job, id=one_of("a" * 30, number), together=3)
        close(dispatch, made)
    await dispatch.usage.flush()
    [row] = usage.unpack(bus.puts[0].payload)
    assert (row.requests, row.prompt, row.completion) == (1, 9, 12)
