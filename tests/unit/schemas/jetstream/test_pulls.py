from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bus import BusError, Message
from schemas.jetstream.pulls import Pulls, Room
from schemas.jetstream.words import ACK, NAK, Status
from tests.unit import fakes
from tests.unit.fakes import Clock, FakeBus, FakeSubscription

NEXT = "$JS.API.CONSUMER.MSG.NEXT.JOBS.echo-i"


class Taker:
    """Keeps the answers to its pulls."""

    def __init__(self, bus: FakeBus, expires: float = 2.0) -> None:
        self.bus = bus
        self.messages: list[Message] = []
        self.statuses: list[str] = []
        self.pulls = Pulls(
            bus, "JOBS", "echo-i", expires=expires, priority=1,
            on_message=self.messages.append, on_status=self._hear, room=Room(10),
        )  # fmt: skip

    def _hear(self, status: Status) -> None:
        self.statuses.append(status.code)

    @property
    def subscription(self) -> FakeSubscription:
        return self.bus.subscriptions[-1]

    def give(self, inbox: str = "") -> None:
        self.bus.deliver(fakes.message(f"{inbox or self.pulls.inbox}.1", b"job", fakes.ack()))

    def say(self, code: str, inbox: str = "", asked: int = 1, left: int | None = None) -> None:
        headers = {"Status": code}
        if left is not None:
            headers["Nats-Pending-Messages"] = str(left)
        self.bus.deliver(fakes.message(f"{inbox or self.pulls.inbox}.{asked}", headers=headers))


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The event loop's time, by hand."""
    made = Clock(1000.0)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", made)
    return made


@pytest.fixture
async def taker(bus: FakeBus, clock: Clock) -> Taker:
    made = Taker(bus)
    await made.pulls.open()
    return made


async def test_a_request_for_one_message_that_waits(taker: Taker) -> None:
    assert taker.pulls.ask()
    ((subject, payload, reply, _),) = taker.bus.posts
    assert (subject, reply) == (NEXT, f"{taker.pulls.inbox}.1")
    assert reply.startswith("_W.test.p.")
    assert orjson.loads(payload) == {
        "batch": 1, "expires": 2_000_000_000, "group": "headrace", "priority": 1,
    }  # fmt: skip


async def test_a_request_for_one_message_at_once(bus: FakeBus) -> None:
    taker = Taker(bus, expires=0)
    await taker.pulls.open()
    taker.pulls.ask()
    assert orjson.loads(bus.posts[0].payload) == {
        "batch": 1, "no_wait": True, "group": "headrace", "priority": 1,
    }  # fmt: skip


async def test_an_ack_with_a_request_is_one_message(taker: Taker) -> None:
    taker.pulls.ask(9)
    request = taker.bus.posts.pop().payload.replace(b"9", b"1", 1)
    taker.pulls.finish(fakes.ack())
    assert taker.bus.posts == [(fakes.ack(), b"+NXT " + request, f"{taker.pulls.inbox}.1", {})]
    assert len(taker.pulls) == 10


async def test_every_answer_is_for_one_request(taker: Taker) -> None:
    for _ in range(3):
        taker.pulls.ask()
    taker.give()
    taker.say("408")
    assert (len(taker.pulls), len(taker.messages), taker.statuses) == (1, 1, ["408"])
    taker.say("409")
    taker.say("409")  # more than there were requests
    assert (len(taker.pulls), taker.statuses) == (0, ["408", "409", "409"])


async def test_requests_without_an_answer_are_forgotten_one_by_one(
    taker: Taker, clock: Clock
) -> None:
    """A leader of the broker was lost with two of them; the third was asked of the next."""
    now = clock.now
    for at in (0.0, 0.5, 3.0):
        clock.now = now + at
        taker.pulls.ask()
    assert taker.pulls.lost(now + 3.9) == 0
    assert taker.pulls.lost(now + 4.1) == 1
    assert taker.pulls.lost(now + 4.1) == 0
    assert taker.pulls.lost(now + 4.6) == 1
    taker.say("408")
    assert len(taker.pulls) == 0


async def test_requests_that_are_answered_do_not_hide_those_that_are_not(
    taker: Taker, clock: Clock
) -> None:
    """One of two was lost, and the other expires and is asked again, on and on."""
    taker.pulls.ask()
    taker.pulls.ask()
    lost = 0
    for _ in range(3):
        clock.now += 2.0
        taker.say("408")
        taker.pulls.ask()
        lost += taker.pulls.lost(clock.now + 0.5)
    assert (lost, len(taker.pulls)) == (1, 1)


async def test_nothing_is_asked_while_it_is_not_open(bus: FakeBus) -> None:
    taker = Taker(bus)
    assert not taker.pulls.ask()
    await taker.pulls.open()
    bus.fault = BusError("away")
    assert not taker.pulls.ask()
    assert (bus.posts, len(taker.pulls)) == ([], 0)


async def test_a_new_connection_knows_nothing_of_the_requests_before(taker: Taker) -> None:
    before, inbox = taker.subscription, taker.pulls.inbox
    taker.pulls.ask()
    await taker.pulls.open()
    assert (len(taker.pulls), len(taker.bus.subscriptions)) == (0, 1)
    assert taker.pulls.inbox != inbox
    taker.pulls.ask()
    taker.bus.subscriptions.append(before)  # the broker has not heard of its end
    taker.say("408", inbox)
    taker.give(inbox)
    assert (len(taker.pulls), taker.messages, taker.statuses) == (1, [], [])
    assert taker.bus.to(fakes.ack()) == [NAK]


async def test_what_comes_after_the_end_goes_back(taker: Taker) -> None:
    handler, inbox = taker.subscription.handler, taker.pulls.inbox
    taker.pulls.ask()
    await taker.pulls.close()
    assert (taker.bus.subscriptions, taker.pulls.inbox, len(taker.pulls)) == ([], "", 0)
    handler(fakes.message(inbox, b"job", fakes.ack()))
    assert (taker.messages, taker.bus.to(fakes.ack())) == ([], [NAK])
    taker.bus.fault = BusError("away")
    handler(fakes.message(inbox, b"job", fakes.ack()))  # redelivered after ack_wait
    await taker.pulls.close()


async def test_while_the_broker_is_away_nothing_is_asked(taker: Taker) -> None:
    taker.bus.up = False
    taker.pulls.fill()
    taker.pulls.finish(fakes.ack())
    assert [(post.payload, post.reply) for post in taker.bus.posts] == [(ACK, "")]
    assert len(taker.pulls) == 0


async def test_others_may_have_the_slots_first(taker: Taker) -> None:
    room = taker.pulls._room
    assert isinstance(room, Room)
    room.size, taker.pulls.first = 2, room.take
    taker.pulls.fill()
    assert len(taker.pulls) == 1
    taker.pulls.finish(fakes.ack())
    assert taker.bus.to(fakes.ack()) == [ACK]


async def test_with_another_priority_what_waits_stays_and_what_follows_has_it(taker: Taker) -> None:
    taker.pulls.ask()
    taker.pulls.rank(4)
    taker.pulls.ask()
    taker.pulls.finish(fakes.ack())
    payloads = [post.payload.removeprefix(b"+NXT ") for post in taker.bus.posts]
    assert [orjson.loads(each)["priority"] for each in payloads] == [1, 4, 4]
    assert len(taker.pulls) == 10


async def test_one_request_asks_for_all_that_there_is_room_for(taker: Taker) -> None:
    taker.pulls.fill()
    taker.pulls.fill()
    ((_, payload, reply, _),) = taker.bus.posts
    assert (orjson.loads(payload)["batch"], reply) == (10, f"{taker.pulls.inbox}.10")
    assert len(taker.pulls) == 10


async def test_a_request_that_expires_says_how_many_it_did_not_get(taker: Taker) -> None:
    taker.pulls.ask(10)
    taker.give()
    taker.give()
    assert len(taker.pulls) == 8
    taker.say("408", asked=10, left=8)
    assert taker.pulls._open == 0


@pytest.mark.parametrize("code", ["409", "503"])
async def test_a_request_that_is_refused_is_refused_as_a_whole(taker: Taker, code: str) -> None:
    taker.pulls.ask(10)
    taker.pulls.ask(3)
    taker.say(code, asked=10)
    assert len(taker.pulls) == 3
    taker.say(code, asked=3)
    assert len(taker.pulls) == 0


async def test_what_expires_rests_while_at_least_half_is_asked_for(taker: Taker) -> None:
    room = room_of(taker)
    for _ in range(10):  # as jobs end, one after the other
        taker.pulls.ask()
    for _ in range(5):
        taker.say("408", left=1)
        taker.pulls.fill()
    assert len(taker.bus.posts) == 10
    assert len(taker.pulls) == 10  # asked for, and there was none
    taker.say("408", left=1)
    taker.pulls.fill()
    assert orjson.loads(taker.bus.posts[-1].payload)["batch"] == 6
    for _ in range(4):
        taker.say("408", left=1)
        taker.pulls.fill()
    taker.say("408", asked=6, left=6)
    taker.pulls.fill()
    assert [orjson.loads(post.payload)["batch"] for post in taker.bus.posts[10:]] == [6, 10]
    assert (len(taker.pulls), room.free()) == (10, 10)


async def test_a_message_wakes_what_rests(taker: Taker) -> None:
    room = room_of(taker)
    taker.pulls.on_message = lambda _: room.take()
    taker.pulls.ask(6)
    taker.pulls.ask(4)
    taker.say("408", asked=4, left=4)
    taker.pulls.fill()
    assert len(taker.bus.posts) == 2
    taker.give()
    assert orjson.loads(taker.bus.posts[-1].payload)["batch"] == 4
    assert len(taker.pulls) == room.free() == 9


async def test_a_finished_message_asks_for_what_rests_too(taker: Taker) -> None:
    room = room_of(taker)
    room.size, room.taken = 10, 1
    taker.pulls.ask(5)
    taker.pulls.ask(4)
    taker.say("408", asked=4, left=4)
    taker.pulls.fill()
    room.untake()
    taker.pulls.finish(fakes.ack())
    assert taker.bus.posts[-1].payload.startswith(b'+NXT {"batch":5,')
    assert taker.bus.posts[-1].reply == f"{taker.pulls.inbox}.5"
    assert len(taker.pulls) == 10


async def test_of_a_lost_request_all_that_it_did_not_bring_is_asked_for_again(
    taker: Taker, clock: Clock
) -> None:
    taker.pulls.fill()
    taker.give()
    clock.now += 4.1
    assert taker.pulls.lost(clock.now) == 9
    taker.pulls.fill()
    assert [orjson.loads(post.payload)["batch"] for post in taker.bus.posts] == [10, 10]


@pytest.mark.parametrize("asked", ["x", "-1", "99999"])
async def test_an_odd_answer_does_no_harm(taker: Taker, asked: str) -> None:
    taker.pulls.ask(2)
    taker.bus.deliver(fakes.message(f"{taker.pulls.inbox}.{asked}", headers={"Status": "409"}))
    assert 0 <= len(taker.pulls) <= 1


@given(st.lists(st.sampled_from(["fill", "give", "end", "408", "409"]), max_size=60))
async def test_it_never_asks_for_more_than_there_is_room_for(steps: list[str]) -> None:
    """Whatever comes, as the broker would send it."""
    bus = FakeBus()
    taker = Taker(bus)
    room = room_of(taker)
    taker.pulls.on_message = lambda _: room.take()
    await taker.pulls.open()
    there: list[int] = []
    for step in steps:
        posted = len(bus.posts)
        if step == "fill":
            taker.pulls.fill()
        elif step == "give" and there:
            there[0] -= 1
            there.append(there.pop(0))  # the broker serves its requests in turn
            taker.give()
        elif step == "end" and room.taken:
            room.untake()
            taker.pulls.finish(fakes.ack())
        elif step in ("408", "409") and there:
            left = there.pop(0)
            taker.say(step, asked=left, left=left)
            taker.pulls.fill()
        for post in bus.posts[posted:]:
            asks = post.payload.partition(b"{")[2]
            if asks:
                there.append(orjson.loads(b"{" + asks)["batch"])
        there = [left for left in there if left]
        assert sum(there) == taker.pulls._open <= room.free()
        assert not there or len(taker.pulls) <= room.free() + 1


def room_of(taker: Taker) -> Room:
    room = taker.pulls._room
    assert isinstance(room, Room)
    return room


@pytest.fixture
def told(taker: Taker) -> list[bool]:
    """What `settle` told: after one request, a question is on its way."""
    told: list[bool] = []
    taker.pulls.ask()
    taker.bus.posts.clear()
    taker.pulls.settle(told.append)
    return told


def _question(taker: Taker) -> str:
    return taker.bus.posts[-1].reply


async def test_a_question_can_bring_no_message(taker: Taker, told: list[bool]) -> None:
    ((subject, payload, reply, _),) = taker.bus.posts
    assert (subject, reply) == (NEXT, f"{taker.pulls.inbox}.q0")
    assert orjson.loads(payload) == {
        "batch": 1, "max_bytes": 1, "no_wait": True, "group": "headrace", "priority": 9,
    }  # fmt: skip
    assert (told, taker.pulls.settled, len(taker.pulls)) == ([], False, 1)


async def test_with_nothing_left_it_is_not_asked_again(taker: Taker, told: list[bool]) -> None:
    taker.bus.deliver(fakes.message(_question(taker), headers={"Status": "404"}))
    taker.pulls.settle(told.append)
    assert (told, taker.pulls.settled) == ([True, True], True)
    assert (len(taker.bus.posts), taker.statuses, len(taker.pulls)) == (1, [], 1)


async def test_a_later_request_needs_a_question_of_its_own(taker: Taker, told: list[bool]) -> None:
    taker.pulls.ask()
    taker.bus.deliver(fakes.message(f"{taker.pulls.inbox}.q0", headers={"Status": "404"}))
    assert (told, taker.pulls.settled) == ([True], False)


@pytest.mark.parametrize(("code", "empty"), [("409", False), ("408", False), ("503", True)])
async def test_what_else_the_broker_may_answer(
    taker: Taker, told: list[bool], code: str, empty: bool
) -> None:
    taker.bus.deliver(fakes.message(_question(taker), headers={"Status": code}))
    assert (told, taker.pulls.settled, taker.statuses) == ([empty], False, [])


async def test_an_answer_that_was_lost_counts_once(
    taker: Taker, told: list[bool], clock: Clock
) -> None:
    taker.pulls.lost(clock.now + 1.9)
    assert told == []
    taker.pulls.lost(clock.now + 2.1)
    taker.bus.deliver(fakes.message(_question(taker), headers={"Status": "404"}))
    assert told == [True]


async def test_closed_it_is_not_known_what_the_broker_had(taker: Taker, told: list[bool]) -> None:
    await taker.pulls.close()
    assert told == [False]
    taker.pulls.settle(told.append)
    taker.pulls.lost(2**30)
    assert told == [False, True], "nothing is asked for, so the broker has nothing for it"


async def test_who_is_asked_before_it_was_ever_open_has_asked_for_nothing(bus: FakeBus) -> None:
    told: list[bool] = []
    Taker(bus).pulls.settle(told.append)
    assert told == [True]
