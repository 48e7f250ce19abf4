from __future__ import annotations

import asyncio

import orjson
import pytest

from schemas.bus import BusError, Message
from schemas.jetstream.pulls import Pulls, Room
from schemas.jetstream.words import ACK, NAK, Status
from tests.unit import fakes
from tests.unit.fakes import FakeBus, FakeSubscription

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
        self.bus.deliver(fakes.message(inbox or self.pulls.inbox, b"job", fakes.ack()))

    def say(self, code: str, inbox: str = "") -> None:
        self.bus.deliver(fakes.message(inbox or self.pulls.inbox, headers={"Status": code}))


class Clock:
    """The event loop's time, by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
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
    assert (subject, reply) == (NEXT, taker.pulls.inbox)
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
    taker.pulls.ask()
    request = taker.bus.posts.pop().payload
    taker.pulls.finish(fakes.ack())
    assert taker.bus.posts == [(fakes.ack(), b"+NXT " + request, taker.pulls.inbox, {})]
    assert len(taker.pulls) == 2


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
