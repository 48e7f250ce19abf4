from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from schemas.bus import BusError, Message
from schemas.jetstream.pulls import Pulls, Room
from schemas.jetstream.words import ACK, NAK
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.consumer import Puller

NEXT = "$JS.API.CONSUMER.MSG.NEXT.JOBS.echo-i4"


class Worker:
    """Slots that jobs take, and the puller that is to fill them."""

    def __init__(self, bus: FakeBus, slots: int = 3) -> None:
        self.bus = bus
        self.room = Room(slots)
        self.jobs: list[Message] = []
        self.puller = Puller(
            bus, "echo", "i", room=self.room, on_job=self._take, expires=2.0, priority=1
        )
        self.pulling = self.puller.pulls

    def _take(self, source: Pulls, message: Message) -> None:
        assert source is self.pulling
        assert self.room.free() > 0
        self.room.take()
        self.jobs.append(message)

    @property
    def inbox(self) -> str:
        return self.bus.subscriptions[-1].subject.removesuffix(".*")

    def pulls(self) -> int:
        """For how many jobs it pulled since the last call."""
        found = [p for p in self.bus.posts if p.subject == NEXT or p.payload[:4] == b"+NXT"]
        self.bus.posts = [p for p in self.bus.posts if p not in found]
        asked = [orjson.loads(p.payload.removeprefix(b"+NXT "))["batch"] for p in found]
        assert [p.reply for p in found] == [f"{self.inbox}.{jobs}" for jobs in asked]
        return sum(asked)

    def deliver(self, count: int = 1, inbox: str = "") -> None:
        for _ in range(count):
            self.bus.deliver(fakes.message(f"{inbox or self.inbox}.1", b"job", fakes.ack()))

    def refuse(self, status: str, inbox: str = "", jobs: int | str = 1) -> None:
        headers = {"Status": status, "Description": "why"}
        self.bus.deliver(fakes.message(f"{inbox or self.inbox}.{jobs}", headers=headers))

    def finish(self) -> None:
        self.room.release()
        self.pulling.finish(self.jobs.pop().reply)


@pytest.fixture
async def worker(bus: FakeBus) -> Worker:
    made = Worker(bus)
    await made.puller.open()
    return made


class Timers:
    """`call_later` of the running loop, by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[tuple[float, Any, tuple[Any, ...]]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", lambda *a: self.waiting.append((a[0], a[1], a[2:])))

    def ring(self) -> list[float]:
        waiting, self.waiting = self.waiting, []
        for _, call, arguments in waiting:
            call(*arguments)
        return [delay for delay, _, _ in waiting]


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(monkeypatch)


async def test_a_pull_is_asked_for_each_free_slot(worker: Worker) -> None:
    first = worker.bus.posts[0]
    assert orjson.loads(first.payload) == {
        "batch": 3, "expires": 2_000_000_000, "group": "headrace", "priority": 1,
    }  # fmt: skip
    assert worker.inbox.startswith("_W.test.p.")
    assert worker.pulls() == 3
    worker.pulling.fill()
    assert worker.pulls() == 0


async def test_a_job_takes_the_place_of_its_pull(worker: Worker) -> None:
    worker.deliver(2)
    worker.pulls()
    worker.pulling.fill()
    assert (len(worker.jobs), worker.pulls()) == (2, 0)


async def test_a_finished_job_is_acked_with_the_next_pull(worker: Worker) -> None:
    worker.deliver(3)
    worker.pulls()
    worker.finish()
    (post,) = worker.bus.posts
    assert (post.subject, post.reply) == (fakes.ack(), f"{worker.inbox}.1")
    assert post.payload.startswith(b'+NXT {"batch":1,')
    worker.pulling.fill()
    assert worker.pulls() == 1


async def test_a_finished_job_is_acked_alone_when_no_slot_is_free(worker: Worker) -> None:
    worker.deliver(3)
    worker.pulls()
    worker.room.size = 2
    worker.finish()
    assert [post.payload for post in worker.bus.posts] == [ACK]


async def test_an_expired_pull_is_asked_for_again_at_once(worker: Worker) -> None:
    worker.pulls()
    worker.refuse("408", jobs=3)
    assert worker.pulls() == 3


@pytest.mark.parametrize("status", ["404", "409", "503"])
async def test_a_refused_pull_is_asked_for_later_and_later(
    worker: Worker, timers: Timers, status: str
) -> None:
    worker.pulls()
    delays: list[float] = []
    for _ in range(6):
        worker.refuse(status)
        worker.pulling.fill()
        assert worker.pulls() == 0
        delays += timers.ring()
        assert worker.pulls() == 1
    assert all(before <= after <= 2 for before, after in pairwise(delays))
    assert delays[0] < delays[-1]
    worker.refuse("408")
    worker.refuse(status)
    assert timers.ring() == delays[:1]


async def test_all_pulls_wait_together_for_a_consumer_that_is_not_made_yet(
    worker: Worker, timers: Timers
) -> None:
    """It may be there at any moment, and then each slot is to pull."""
    assert worker.pulls() == 3
    with capture_logs() as lines:
        for delay in (0.05, 0.1):
            for _ in range(3):
                worker.refuse("503")
            worker.pulling.fill()
            assert worker.pulls() == 0
            assert timers.ring() == [delay]
            assert worker.pulls() == 3
    assert [line["event"] for line in lines] == ["consumer.awaited"], "quietly"
    worker.deliver()
    assert len(worker.jobs) == 1


@pytest.mark.usefixtures("timers")
async def test_whose_consumer_may_be_there_by_now_is_asked_before_others_are_served(
    worker: Worker,
) -> None:
    """The slots of a batch job that ends, for example, while a chat waits in the new consumer."""
    worker.pulls()
    worker.refuse("503", jobs=3)
    told: list[bool] = []
    worker.pulling.settle(told.append)
    assert [post.reply for post in worker.bus.posts] == [f"{worker.inbox}.{n}" for n in (3, "q0")]
    assert told == [], "the broker is to say first whether it has one"
    worker.refuse("404", jobs="q0")
    assert told == [True]


async def test_a_job_without_a_free_slot_goes_back(worker: Worker) -> None:
    worker.pulls()
    worker.room.size = 1
    worker.deliver(2)
    assert len(worker.jobs) == 1
    assert worker.bus.to(fakes.ack()) == [NAK]


async def test_never_more_pulls_than_free_slots(worker: Worker, timers: Timers) -> None:
    asked = worker.pulls()
    for turn in range(200):
        match turn * 7 % 5:
            case 0 if asked:
                worker.deliver()
                asked -= 1
            case 1 if worker.jobs:
                worker.finish()
            case 2 if asked:
                worker.refuse("408")
                asked -= 1
            case 3 if asked:
                worker.refuse("409")
                asked -= 1
            case 4:
                timers.ring()
        worker.pulling.fill()
        asked += worker.pulls()
        assert asked <= worker.room.free()
        assert asked + len(timers.waiting) + worker.pulling._resting == worker.room.free()


async def test_a_new_connection_gets_a_fresh_inbox(worker: Worker) -> None:
    worker.deliver()
    worker.pulls()
    before = worker.inbox
    await worker.puller.open()
    assert worker.inbox != before
    assert worker.pulls() == 2
    assert len(worker.bus.subscriptions) == 1


async def test_what_comes_for_an_old_inbox_does_not_count(worker: Worker, timers: Timers) -> None:
    old, inbox = worker.bus.subscriptions[0], worker.inbox
    worker.pulls()
    worker.refuse("409")
    await worker.puller.open()
    worker.bus.subscriptions.insert(0, old)  # the broker has not heard of its end
    assert worker.pulls() == 3
    timers.ring()
    worker.refuse("408", inbox)
    assert worker.pulls() == 0
    worker.deliver(1, inbox)
    assert worker.jobs == []
    assert worker.bus.to(fakes.ack()) == [NAK]
    worker.pulling.fill()
    assert worker.pulls() == 0


async def test_closed_it_pulls_no_more_and_hands_back(worker: Worker) -> None:
    worker.deliver()
    worker.pulls()
    subscription = worker.bus.subscriptions[0]
    await worker.puller.close()
    assert worker.bus.flushed == 1
    worker.pulling.fill()
    worker.finish()
    subscription.handler(fakes.message(subscription.subject, b"job", fakes.ack()))
    assert worker.bus.to(fakes.ack()) == [ACK, NAK]
    assert worker.jobs == []
    await worker.puller.close()


async def test_a_broker_that_is_away_is_no_fault(worker: Worker) -> None:
    worker.pulls()
    worker.deliver()
    worker.bus.fault = BusError("away")
    worker.pulling.fill()
    worker.room.size = 1
    worker.deliver()
    worker.bus.fault = None
    await worker.puller.open()
    assert worker.pulls() == 0


async def test_pulls_that_were_lost_are_asked_for_again(worker: Worker) -> None:
    worker.pulls()
    now = asyncio.get_running_loop().time()
    worker.puller.heal(now + 3.9)
    assert worker.pulls() == 0
    worker.puller.heal(now + 4.5)
    assert worker.pulls() == 3
    worker.puller.heal(now + 0.1)
    assert worker.pulls() == 0


async def test_a_worker_without_pulls_has_none_to_heal(worker: Worker) -> None:
    worker.deliver(3)
    worker.pulls()
    worker.puller.heal(1e9)
    assert worker.pulls() == 0
