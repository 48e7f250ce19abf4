from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from schemas import subjects
from schemas.jetstream.pulls import GRACE
from schemas.jetstream.words import ACK, NAK
from tests.unit.fakes import FakeBus
from tests.unit.workers.lanes import Lanes
from workers.batch import BatchPullers

_I, _B = subjects.INTERACTIVE, subjects.BATCH


class Worker(Lanes):
    """Slots for one model's jobs of both lanes."""

    def __init__(self, bus: FakeBus, monkeypatch: pytest.MonkeyPatch, slots: int = 2) -> None:
        super().__init__(bus, slots, {_I: "i", _B: "b"})
        self.timers: list[tuple[Any, tuple[Any, ...]]] = []
        self.batch = BatchPullers(bus, self.room, [self.interactive], self.take, expires=2.0)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", self.call_later)

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> None:
        assert seconds == GRACE / 2
        self.timers.append((call, arguments))

    async def open(self) -> None:
        await self.interactive.open()
        await self.batch.open()

    def wait(self) -> None:
        """Nothing comes for as long as interactive jobs have the first choice."""
        while self.timers:
            call, arguments = self.timers.pop(0)
            call(*arguments)


@pytest.fixture
async def worker(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> Worker:
    made = Worker(bus, monkeypatch)
    await made.open()
    return made


async def test_an_idle_worker_asks_the_batch_lane_once_and_later(worker: Worker) -> None:
    assert worker.asked() == "i", "one request for both slots"
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


async def test_the_first_look_is_too_soon_for_a_slot_that_came_free_before_it(
    worker: Worker,
) -> None:
    for _ in range(2):
        worker.deliver(_I)
    worker.wait()
    worker.finish()
    worker.asked()
    look, arguments = worker.timers.pop(0)
    look(*arguments)
    assert worker.asked() == ""
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
    assert worker.timers == []
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


async def test_its_priority_is_that_of_the_interactive_lane(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(bus, monkeypatch)
    worker.batch.rank("m", 1)
    worker.batch.rank("another", 5)
    await worker.open()
    worker.bus.posts.clear()
    worker.wait()
    assert [orjson.loads(post.payload)["priority"] for post in bus.posts] == [1]
