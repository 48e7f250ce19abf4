from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from schemas import frames
from schemas.bus import BusError
from schemas.frames import End, Frame, Kind, Role
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.attempt import PIECE, Attempt
from workers.cancellation import Reason, Withdrawn

JOB = fakes.job()
SUBJECT = f"r.in-1.{JOB.id}"


def make(bus: FakeBus, ring: int = 2**20, delivered: int = 1) -> Attempt:
    return Attempt(bus, JOB, fakes.ack(delivered), ring)


def messages(bus: FakeBus) -> list[list[Frame]]:
    """The frames of each message since the last call."""
    assert {post.subject for post in bus.posts} <= {SUBJECT}
    found = [frames.unpack(post.payload) for post in bus.posts]
    bus.posts.clear()
    return found


@pytest.fixture
async def attempt(bus: FakeBus) -> Attempt:
    return make(bus)


async def test_a_claim_names_the_delivery(bus: FakeBus) -> None:
    attempt = make(bus, delivered=3)
    attempt.claim(Role.WORKER, "w-1", "node", "e")
    attempt.repeat_claim()
    assert attempt.number == 3
    assert {post.reply for post in bus.posts} == {"c.w-1"}, "where the broker says: nobody hears"
    assert (
        messages(bus)
        == [
            [
                Frame(
                    Kind.CLAIM, 3, attempt.nonce, 0, ("worker", "w-1", "node", "e", fakes.ack(3), 0)
                )
            ]
        ]
        * 2
    )


async def test_each_delivery_draws_a_nonce_of_its_own(bus: FakeBus) -> None:
    assert len({make(bus).nonce for _ in range(100)}) == 100


@pytest.mark.parametrize("ack", ["", "x.y", "$JS.ACK.JOBS.echo-i3.x.1.1.1.1"])
async def test_what_is_no_ack_subject_is_refused(bus: FakeBus, ack: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        Attempt(bus, JOB, ack, 1)


async def test_frames_that_are_ready_in_one_turn_travel_in_one_message(
    attempt: Attempt, bus: FakeBus
) -> None:
    attempt.start(200, "text/event-stream")
    attempt.data(b"1")
    attempt.data(b"2")
    assert bus.posts == []
    await fakes.turns(1)
    (together,) = messages(bus)
    assert [(f.kind, f.seq, f.body) for f in together] == [
        (Kind.START, 0, (200, "text/event-stream")),
        (Kind.DATA, 1, b"1"),
        (Kind.DATA, 2, b"2"),
    ]
    await fakes.turns(2)
    attempt.data(b"3")
    await fakes.turns(1)
    assert [[f.seq for f in found] for found in messages(bus)] == [[3]]


async def test_the_last_frame_does_not_wait(attempt: Attempt, bus: FakeBus) -> None:
    attempt.start(200, "x")
    attempt.data(b"all")
    attempt.end(End(1, 2, 3, 4))
    (together,) = messages(bus)
    assert [f.kind for f in together] == [Kind.START, Kind.DATA, Kind.END]
    assert together[-1].body == (1, 2, 3, 4)
    await fakes.turns()
    assert bus.posts == []


async def test_a_failure_says_why(attempt: Attempt, bus: FakeBus) -> None:
    attempt.fail("engine_failed", "it broke", True)
    ((frame,),) = messages(bus)
    assert (frame.kind, frame.seq, frame.body) == (
        Kind.FAIL, 0, ("engine_failed", "it broke", True),
    )  # fmt: skip


async def test_a_large_answer_is_cut_into_messages_the_broker_takes(
    attempt: Attempt, bus: FakeBus
) -> None:
    whole = bytes(range(256)) * (PIECE // 256 * 3 + 1)
    attempt.start(200, "x")
    attempt.data(whole)
    await fakes.turns()
    assert max(len(post.payload) for post in bus.posts) < PIECE + 200
    found = [frame for message in messages(bus) for frame in message]
    assert b"".join(f.body for f in found if f.kind == Kind.DATA) == whole
    assert all(after.seq - before.seq == 1 for before, after in pairwise(found))


async def test_alive_tells_how_far_it_is(attempt: Attempt, bus: FakeBus) -> None:
    attempt.alive("c.w-1")
    attempt.data(b"1")
    attempt.alive("c.w-1")
    assert [post.reply for post in bus.posts] == ["c.w-1", "c.w-1"]
    assert [(f.kind, f.seq) for (f,) in messages(bus)] == [(Kind.ALIVE, 0), (Kind.ALIVE, 1)]


async def test_what_was_lost_is_sent_again(attempt: Attempt, bus: FakeBus) -> None:
    attempt.start(200, "x")
    for piece in (b"1", b"2", b"3"):
        attempt.data(piece)
    attempt.end(End())
    bus.posts.clear()
    attempt.resend(2)
    assert [f.seq for (f,) in messages(bus)] == [2, 3, 4]
    attempt.resend(5)
    assert bus.posts == []


async def test_what_is_no_longer_kept_fails_the_attempt(bus: FakeBus) -> None:
    attempt = make(bus, ring=100)
    for _ in range(10):
        attempt.data(b"x" * 50)
    await fakes.turns()
    assert attempt.kept <= 100
    bus.posts.clear()
    attempt.resend(2)
    ((frame,),) = messages(bus)
    assert (frame.kind, frame.seq) == (Kind.FAIL, 2)
    assert frame.body[::2] == ("stream_interrupted", False)
    assert isinstance(attempt.stopped, Withdrawn)
    assert attempt.stopped.reason.verdict == b"+TERM"


async def test_the_last_frame_is_kept_however_large(bus: FakeBus) -> None:
    attempt = make(bus, ring=100)
    attempt.data(b"x" * 1000)
    await fakes.turns()
    bus.posts.clear()
    attempt.resend(0)
    assert [f.seq for (f,) in messages(bus)] == [0]


async def test_while_the_broker_is_away_the_ring_keeps_it_all(
    attempt: Attempt, bus: FakeBus
) -> None:
    bus.fault = BusError("away")
    attempt.claim(Role.WORKER, "w", "n", "e")
    attempt.start(200, "x")
    attempt.data(b"1")
    await fakes.turns()
    bus.fault = None
    attempt.resend(0)
    assert [f.seq for (f,) in messages(bus)] == [0, 1]


async def test_progress_is_noted(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.attempt.time.monotonic", lambda: 1e9)
    assert attempt.moved < 1e9
    attempt.touch()
    assert attempt.moved == 1e9
    attempt.moved = 0
    attempt.data(b"x")
    assert attempt.moved == 1e9


async def test_the_first_reason_to_stop_counts(attempt: Attempt) -> None:
    attempt.task = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    await fakes.turns(1)
    first = Withdrawn(Reason.GONE)
    attempt.stop(first)
    attempt.stop(Withdrawn(Reason.DROPPED))
    with pytest.raises(asyncio.CancelledError):
        await attempt.task
    assert attempt.stopped is first


async def test_stopped_before_it_runs(attempt: Attempt) -> None:
    attempt.stop(Withdrawn(Reason.GONE))
    assert str(attempt.stopped) == "gone"


async def test_settling_waits_for_the_bus(attempt: Attempt, bus: FakeBus) -> None:
    await attempt.settle()
    assert bus.settled == 1
