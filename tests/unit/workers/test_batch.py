from __future__ import annotations

import asyncio

import orjson
import pytest

from schemas import subjects
from schemas.jetstream.idle import LOOKS, PAUSE
from schemas.jetstream.pulls import LOST
from schemas.jetstream.words import ACK, NAK
from tests.unit.fakes import FakeBus
from tests.unit.workers.lanes import Lanes, Timers
from workers.batch import BatchPullers

_I, _B = subjects.INTERACTIVE, subjects.BATCH


class Worker(Lanes):
    """Slots for one model's jobs of both lanes."""

    def __init__(self, bus: FakeBus, clock: Timers, slots: int = 2) -> None:
        super().__init__(bus, clock, slots, {_I: "i", _B: "b"})
        self.batch = BatchPullers(bus, self.room, [self.interactive], self.take, expires=2.0)

    async def open(self) -> None:
        await self.interactive.open()
        await self.batch.open()


@pytest.fixture
async def worker(bus: FakeBus, clock: Timers) -> Worker:
    made = Worker(bus, clock)
    await made.open()
    return made


async def test_an_idle_worker_asks_the_batch_lane_once_and_later(worker: Worker) -> None:
    assert worker.asked() == "i", "one request for both slots"
    worker.wait()
    assert worker.asked() == "b"


async def test_a_question_that_a_new_connection_forgets_is_asked_again(worker: Worker) -> None:
    """Else no batch job would be asked for any more."""
    worker.clock.pass_by(PAUSE)
    assert worker.is_asked()
    await worker.interactive.open()  # it alone
    worker._questions.clear()  # nobody answers the old one
    worker.asked()
    worker.wait()
    assert worker.asked() == "b"


async def test_a_slot_is_offered_to_the_interactive_lane_first(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_I)
    worker.wait()
    worker.asked()
    worker.finish()
    assert worker.asked() == "i"
    worker.deliver(_I)
    worker.wait()
    assert worker.asked() == ""


async def test_a_batch_job_that_comes_before_the_interactive_lane_could_answer_goes_back(
    worker: Worker,
) -> None:
    worker.wait()
    for lane in (_I, _I):
        worker.deliver(lane)
    worker.finish()
    worker.asked()
    worker.deliver(_B)
    assert [post.payload for post in worker.bus.posts] == [NAK]
    assert len(worker.jobs) == 1
    worker.asked()
    worker.wait()
    assert worker.asked() == "b"


async def test_however_late_the_broker_answers_no_batch_job_is_asked_for_before(
    worker: Worker,
) -> None:
    for _ in range(2):
        worker.deliver(_I)
    worker.wait()
    worker.finish()
    worker.clock.pass_by(PAUSE)
    worker.clock.pass_by(LOST)
    assert worker.is_asked()
    worker.deliver(_I)  # the answer to the pull, late
    worker.answer("409")
    worker.clock.pass_by(PAUSE)
    assert worker.asked() == "ii", "+NXT, and what fills up the room; no slot is free"


async def test_a_question_from_before_a_slot_came_free_says_nothing_of_it(worker: Worker) -> None:
    for _ in range(2):
        worker.deliver(_I)
    worker.wait()
    worker.finish()
    worker.clock.pass_by(PAUSE)
    assert worker.is_asked()
    worker.finish()
    worker.asked()
    worker.answer()
    assert worker.asked() == "b", "for one slot"
    worker.deliver(_B)
    assert (worker.asked(), worker.room.free()) == ("", 1)
    worker.wait()
    assert worker.asked() == "b"


async def test_while_messages_wait_for_others_it_is_asked_again_but_not_for_ever(
    worker: Worker,
) -> None:
    for _ in range(LOOKS):
        assert worker.asked() in ("i", "")
        worker.clock.pass_by(PAUSE)
        worker.answer("408")
    assert worker.asked() == "b"


async def test_without_a_consumer_of_interactive_jobs_batch_jobs_are_taken(worker: Worker) -> None:
    worker.asked()
    worker.clock.pass_by(PAUSE)
    worker.answer("503")
    assert worker.asked() == "b"


async def test_an_answer_that_is_lost_is_waited_for_as_long_as_a_pull_is(worker: Worker) -> None:
    worker.clock.pass_by(PAUSE)
    now = asyncio.get_running_loop().time()
    worker.asked()
    worker.interactive.heal(now + LOST - 0.1)
    assert worker.asked() == ""
    worker.interactive.heal(now + LOST + 0.1)
    assert worker.asked() == "b"
    worker.answer()
    assert worker.asked() == ""


async def test_a_new_connection_knows_of_no_question(worker: Worker) -> None:
    worker.clock.pass_by(PAUSE)
    assert worker.is_asked()
    before = worker.interactive.pulls.inbox
    await worker.open()
    assert worker.interactive.pulls.inbox != before
    worker.asked()
    worker._questions.clear()
    worker.wait()
    assert worker.asked() == "b"


async def test_batch_jobs_fill_all_slots_that_are_idle(worker: Worker) -> None:
    worker.wait()
    worker.asked()
    worker.deliver(_B)
    assert worker.asked() == "b"
    worker.deliver(_B)
    assert worker.asked() == ""
    assert worker.room.free() == 0


async def test_after_a_batch_job_a_slot_whose_pull_still_waits_is_batchs_at_once(
    worker: Worker,
) -> None:
    worker.wait()
    worker.deliver(_B)
    worker.deliver(_B)
    worker.asked()
    worker.finish()
    assert not worker.clock.timers
    assert worker.asked() == "b"  # both pulls of the interactive lane are still open


async def test_after_a_batch_job_the_interactive_lane_is_asked_where_no_pull_waits(
    worker: Worker,
) -> None:
    worker.wait()
    worker.deliver(_B)
    worker.deliver(_B)
    for _ in range(2):  # an interactive job meets no free slot, and goes back
        worker.deliver(_I)
    worker.asked()
    worker.finish()
    assert worker.bus.posts[0].payload == ACK
    assert worker.asked() == "i"
    worker.wait()
    assert worker.asked() == "b"


async def test_closed_it_asks_no_more_and_hears_of_no_slot(worker: Worker) -> None:
    worker.deliver(_I)
    await worker.batch.close()
    await worker.batch.close()
    worker.asked()
    worker.room.release()
    worker.wait()
    assert worker.asked() == ""
    assert worker.room.on_release == []


async def test_lost_pulls_are_repeated(worker: Worker) -> None:
    worker.wait()
    worker.asked()
    worker.batch.heal(asyncio.get_running_loop().time() + 60)
    assert worker.asked() == "b"


async def test_its_priority_is_that_of_the_interactive_lane(bus: FakeBus, clock: Timers) -> None:
    worker = Worker(bus, clock)
    worker.batch.rank("m", 1)
    worker.batch.rank("another", 5)
    await worker.open()
    worker.bus.posts.clear()
    worker.wait()
    assert [orjson.loads(post.payload)["priority"] for post in bus.posts] == [1]
