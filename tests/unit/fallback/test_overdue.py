from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from fallback import overdue
from fallback.overdue import OverduePuller
from fallback.policy import CloudRoutes
from schemas import subjects
from schemas.bus import Message
from schemas.jetstream.pulls import Room
from schemas.settings import Route
from tests.unit import fakes, version_1
from tests.unit.fakes import FakeBus, message

NEXT = "$JS.API.CONSUMER.MSG.NEXT.JOBS.echo-i4"
LATER = round(time.time() * 1000) + 3_600_000


class OverdueSetup:
    def __init__(self, bus: FakeBus, slots: int = 2) -> None:
        self.bus = bus
        self.room = Room(slots)
        self.taken: list[Message] = []
        routes = CloudRoutes([Route(name="chat", model="echo", providers=["p/x"])])
        self.puller = OverduePuller(bus, routes, self.room, self._take)

    def _take(self, source: OverduePuller, got: Message) -> None:
        assert source is self.puller
        self.room.take()
        self.taken.append(got)

    def call(self, job: str = "j1", model: str = "echo") -> None:
        self.bus.deliver(message(subjects.want(model), job.encode()))

    def answer(self, sequence: int = 1, **changed: Any) -> str:
        """The broker gives a job; returns its ack subject."""
        ack = fakes.ack(1, sequence)
        job = fakes.job(**{"asked": "chat", **changed})
        self.bus.deliver(message(self.inbox, job.pack(), reply=ack))
        return ack

    def empty(self) -> None:
        self.bus.deliver(message(self.inbox, b"", headers={"Status": "404"}))

    @property
    def inbox(self) -> str:
        """Where the last pull is answered."""
        return [post.reply for post in self.bus.posts if post.subject == NEXT][-1]

    @property
    def pulls(self) -> int:
        return len(self.bus.to(NEXT))

    def verdicts(self) -> list[tuple[str, bytes]]:
        return [(p.subject, p.payload) for p in self.bus.posts if p.subject.startswith("$JS.ACK")]


@pytest.fixture
async def setup(bus: FakeBus) -> OverdueSetup:
    made = OverdueSetup(bus)
    await made.puller.open()
    return made


async def test_each_call_is_one_pull_that_does_not_wait(setup: OverdueSetup) -> None:
    setup.call()
    [pull] = [post for post in setup.bus.posts if post.subject == NEXT]
    asked = orjson.loads(pull.payload)
    assert asked == {"batch": 1, "no_wait": True, "group": subjects.GROUP, "priority": 9}
    setup.answer()
    assert len(setup.taken) == 1
    assert setup.verdicts() == []


async def test_other_models_are_nobodys_here(setup: OverdueSetup) -> None:
    setup.call(model="unknown")
    assert setup.bus.posts == []


async def test_an_empty_queue_is_no_news(setup: OverdueSetup) -> None:
    setup.call("j1")
    setup.empty()
    setup.call("j2")
    setup.call("j3")
    assert setup.pulls == 3


async def test_what_is_not_due_is_put_back_after_one_behind_it(setup: OverdueSetup) -> None:
    setup.call()
    early = setup.answer(1, id="a" * 32, claim_by=LATER)
    local = setup.answer(2, id="b" * 32, local=True)
    plain = setup.answer(3, id="c" * 32, asked="echo")
    assert (setup.pulls, setup.verdicts()) == (4, [])
    setup.answer(4, id="d" * 32)
    assert len(setup.taken) == 1
    assert setup.verdicts() == [(ack, b"-NAK") for ack in (early, local, plain)]


async def test_a_job_that_was_called_for_is_due_whatever_the_clock_says(
    setup: OverdueSetup,
) -> None:
    setup.call("a" * 32)
    setup.answer(1, id="a" * 32, claim_by=LATER)
    assert len(setup.taken) == 1


async def test_at_the_queues_end_all_is_put_back(setup: OverdueSetup) -> None:
    setup.call()
    ack = setup.answer(1, claim_by=LATER)
    setup.empty()
    assert setup.verdicts() == [(ack, b"-NAK")]


async def test_it_does_not_look_for_ever(
    setup: OverdueSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "LOOK", 3)
    setup.call()
    acks = [setup.answer(number, id=f"{number:032x}", claim_by=LATER) for number in range(1, 4)]
    assert setup.verdicts() == [(ack, b"-NAK") for ack in acks]
    assert setup.pulls == 3


async def test_a_call_that_finds_no_slot_is_answered_when_one_is_free(setup: OverdueSetup) -> None:
    setup.room.size = 0
    setup.call()
    assert setup.pulls == 0
    setup.room.size = 1
    setup.puller.fill()
    assert setup.pulls == 1
    setup.puller.fill()
    assert setup.pulls == 1


async def test_one_that_is_too_old_is_not(
    setup: OverdueSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.room.size = 0
    setup.call()
    setup.room.size = 1
    now = time.monotonic() + overdue.FRESH
    monkeypatch.setattr("fallback.overdue.time.monotonic", lambda: now)
    setup.puller.fill()
    assert setup.pulls == 0


async def test_what_comes_while_all_slots_are_taken_goes_back(setup: OverdueSetup) -> None:
    setup.call()
    setup.room.size = 0
    ack = setup.answer()
    assert (setup.taken, setup.verdicts()) == ([], [(ack, b"-NAK")])


@pytest.mark.parametrize("data", [b"x", version_1.JOB])
async def test_what_cannot_be_read_goes_back_and_hides_nothing(
    setup: OverdueSetup, data: bytes
) -> None:
    """It may be at the queue's head for as long as it lives."""
    setup.call()
    with capture_logs() as lines:
        setup.bus.deliver(message(setup.inbox, data, reply=fakes.ack()))
    assert [line["log_level"] for line in lines] == ["error"]
    assert setup.verdicts() == []
    due = setup.answer(2)
    assert [taken.reply for taken in setup.taken] == [due]
    assert setup.verdicts() == [(fakes.ack(), b"-NAK")]


async def test_closed_it_lets_go_of_everything(setup: OverdueSetup) -> None:
    setup.call()
    ack = setup.answer(1, claim_by=LATER)
    await setup.puller.close()
    assert setup.verdicts() == [(ack, b"-NAK")]
    assert setup.bus.subscriptions == []


async def test_a_look_whose_answer_was_lost_is_forgotten(setup: OverdueSetup) -> None:
    setup.room.size = 1
    setup.call("j1")
    ack = setup.answer(1, claim_by=LATER)  # one behind it is looked for
    setup.call("j2")
    assert setup.pulls == 2, "its slot is spoken for"
    now = asyncio.get_running_loop().time()
    setup.puller.heal(now + 1.9)
    assert setup.verdicts() == []
    setup.puller.heal(now + 2.5)
    assert setup.verdicts() == [(ack, b"-NAK")]
    setup.puller.fill()
    assert setup.pulls == 3


async def test_what_a_connection_before_asked_for_goes_back(setup: OverdueSetup) -> None:
    setup.call()
    late, inbox = setup.bus.subscriptions[0].handler, setup.inbox
    await setup.puller.close()
    await setup.puller.open()
    late(message(inbox, fakes.job(asked="chat").pack(), reply=fakes.ack()))
    assert (setup.taken, setup.verdicts()) == ([], [(fakes.ack(), b"-NAK")])
