from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from schemas import frames
from schemas.bus import BusError
from schemas.frames import End, Frame, Kind, Role
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers import attempt as attempts
from workers.attempt import MANY, OFTEN, PIECE, Attempt, Outbox
from workers.cancellation import Reason, Withdrawn

JOB = fakes.job()
SUBJECT = f"r.in-1.box.{JOB.id}"


def make(bus: FakeBus, ring: int = 2**20, delivered: int = 1) -> Attempt:
    return Attempt(bus, fakes.HOLDER, JOB, fakes.ack(delivered), ring)


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
    attempt.claim(Role.WORKER, "node", "e")
    attempt.repeat_claim()
    assert attempt.number == 3
    told = {post.reply for post in bus.posts}
    assert told == {f"c.{fakes.HOLDER}"}, "where the broker says: nobody hears"
    body = ("worker", fakes.HOLDER, "node", "e", fakes.ack(3), 0, False)
    assert messages(bus) == [[Frame(Kind.CLAIM, 3, attempt.nonce, 0, body)]] * 2


async def test_each_delivery_draws_a_nonce_of_its_own(bus: FakeBus) -> None:
    assert len({make(bus).nonce for _ in range(100)}) == 100


@pytest.mark.parametrize("ack", ["", "x.y", "$JS.ACK.JOBS.echo-i4.x.1.1.1.1"])
async def test_what_is_no_ack_subject_is_refused(bus: FakeBus, ack: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        Attempt(bus, fakes.HOLDER, JOB, ack, 1)


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
    attempt.end(End(1, 2, 3, 4, 5, 6, 7))
    (together,) = messages(bus)
    assert [f.kind for f in together] == [Kind.START, Kind.DATA, Kind.END]
    assert together[-1].body == (1, 2, 3, 4, 5, 6, 7)
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


class Streams:
    """Attempts that share an outbox. Its clock stands still unless it is told."""

    def __init__(self, bus: FakeBus, count: int) -> None:
        self._bus = bus
        self.now = 100.0
        self.outbox = Outbox(bus.before_writing, lambda: self.now)
        self.all = [self.another() for _ in range(count)]

    def another(self) -> Attempt:
        return Attempt(self._bus, fakes.HOLDER, JOB, fakes.ack(), 2**20, self.outbox)

    async def stream(self, seconds: float = 0.11) -> None:
        """They stream for a while, at the same pace."""
        await self.turn()
        for _ in range(OFTEN // len(self.all) + 1):
            await self.turn()
        self.now += seconds
        await self.turn()
        self._bus.posts.clear()

    async def turn(self) -> None:
        for each in self.all:
            each.data(b"1")
        await fakes.turns(1)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for others waits for ever."""
    monkeypatch.setattr(attempts, "GATHER", 3600.0)


@pytest.mark.usefixtures("endless")
async def test_tokens_of_many_streams_wait_for_each_other(bus: FakeBus) -> None:
    streams = Streams(bus, MANY)
    await streams.stream()
    streams.all[0].data(b"a")
    await fakes.turns()
    streams.all[1].data(b"b")
    streams.all[0].data(b"c")
    await fakes.turns()
    assert bus.posts == []
    streams.all[0].alive("c.x")
    texts = [[f.body for f in found] for found in messages(bus)]
    assert texts == [[b"a", b"c"], [None]], "in one message, and before what counts them"


async def test_they_wait_a_few_milliseconds(bus: FakeBus) -> None:
    streams = Streams(bus, MANY)
    await streams.stream()
    for each in streams.all[:3]:
        each.data(b"x")
        await fakes.turns(1)
    assert bus.posts == []
    while not bus.posts:
        await asyncio.sleep(0.001)
    assert [[f.body for f in found] for found in messages(bus)] == [[b"x"]] * 3


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("count", [MANY - 1, 1])
async def test_those_of_few_streams_do_not(bus: FakeBus, count: int) -> None:
    streams = Streams(bus, count)
    await streams.stream()
    streams.all[0].data(b"x")
    await fakes.turns(1)
    assert len(messages(bus)) == 1


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("seconds", [0.11 * 10, 0.5])
async def test_those_of_slow_streams_do_not(bus: FakeBus, seconds: float) -> None:
    streams = Streams(bus, MANY)
    await streams.stream()
    assert streams.outbox.gathers
    await streams.turn()
    streams.now += seconds
    streams.all[0].end(End())
    streams.another().start(200, "x")  # at once, with all that waits
    await fakes.turns(1)
    bus.posts.clear()
    streams.all[1].data(b"x")
    await fakes.turns(1)
    assert len(messages(bus)) == 1


async def test_what_cannot_be_posted_of_one_keeps_nothing_of_others(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon: list[Callable[[], None]] = []
    outbox = Outbox(soon.append)
    one, other = (Attempt(bus, fakes.HOLDER, JOB, fakes.ack(), 2**20, outbox) for _ in range(2))
    monkeypatch.setattr(one, "flush", partial(int, "x"))
    for each in (one, other):
        each.start(200, "x")
    (flush,) = soon
    with pytest.RaisesGroup(ValueError):
        flush()
    assert len(messages(bus)) == 1
    other.data(b"x")
    assert len(soon) == 2, "the next ones go out, too"


@pytest.mark.usefixtures("endless")
async def test_what_a_client_waits_for_does_not_wait_and_takes_others_along(bus: FakeBus) -> None:
    streams = Streams(bus, MANY)
    await streams.stream()
    newcomer = streams.another()
    streams.all[0].data(b"x")
    newcomer.start(200, "x")
    await fakes.turns(1)
    assert [[f.kind for f in found] for found in messages(bus)] == [[Kind.DATA], [Kind.START]]
    newcomer.data(b"first")
    await fakes.turns(1)
    assert [[f.body for f in found] for found in messages(bus)] == [[b"first"]]
    newcomer.data(b"second")
    await fakes.turns()
    assert bus.posts == []
    newcomer.end(End())
    assert [[f.kind for f in found] for found in messages(bus)] == [[Kind.DATA, Kind.END]]


@pytest.mark.usefixtures("endless")
async def test_what_is_gathered_stays_within_what_the_broker_takes(bus: FakeBus) -> None:
    streams = Streams(bus, MANY)
    await streams.stream()
    for _ in range(5):
        streams.all[0].data(bytes(PIECE // 2 + 1))
    await streams.all[0].settle()
    assert [len(found) for found in messages(bus)] == [1] * 4
    streams.all[0].end(End())
    assert [[f.kind for f in found] for found in messages(bus)] == [[Kind.DATA, Kind.END]]


async def test_a_whole_answer_is_one_message(attempt: Attempt, bus: FakeBus) -> None:
    attempt.start(200, "application/json")
    attempt.data(b"{}")
    await attempt.settle()
    attempt.end(End())
    assert [[f.kind for f in found] for found in messages(bus)] == [
        [Kind.START, Kind.DATA, Kind.END]
    ]


async def test_what_waits_for_room_goes_out_though_no_end_comes(
    attempt: Attempt, bus: FakeBus
) -> None:
    attempt.start(200, "application/json")
    attempt.data(b"{}")
    await attempt.settle()
    await fakes.turns()
    assert [[f.kind for f in found] for found in messages(bus)] == [[Kind.START, Kind.DATA]]


async def test_alive_tells_how_far_it_is(attempt: Attempt, bus: FakeBus) -> None:
    attempt.alive(f"c.{fakes.HOLDER}")
    attempt.data(b"1")
    attempt.alive(f"c.{fakes.HOLDER}")
    assert [post.reply for post in bus.posts] == [f"c.{fakes.HOLDER}", "", f"c.{fakes.HOLDER}"]
    told = [(f.kind, f.seq) for (f,) in messages(bus)]
    assert told == [(Kind.ALIVE, 0), (Kind.DATA, 0), (Kind.ALIVE, 1)], "else one seemed lost"


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
    assert attempt.ring.kept <= 100
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
    attempt.claim(Role.WORKER, "n", "e")
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
