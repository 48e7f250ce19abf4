from __future__ import annotations

import orjson
import pytest

from schemas import subjects
from schemas.jetstream.idle import LOOKS, PAUSE
from schemas.jetstream.pulls import Room
from schemas.jetstream.words import ACK, IN_PROGRESS, NAK
from schemas.jobs import WANTED_ENGINE, WANTED_FOR, engine_of
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.workers.lanes import Lanes, Timers
from workers.consumer import Puller
from workers.pinned import AWAY, MOST_KEPT, Neighbours, PinnedPullers

_I, _N = subjects.INTERACTIVE, subjects.pinned("box")


WAIT = 0.5
E, OTHER = engine_of("box.1", "e"), engine_of("box.1", "other")


class Worker(Lanes):
    """The slots of one model, for jobs of all nodes and of its own."""

    def __init__(self, bus: FakeBus, clock: Timers, slots: int = 1) -> None:
        super().__init__(bus, clock, slots, {_I: "i", _N: "n"})
        self.neighbours: Neighbours = {}
        more = 2.0, E, self.neighbours
        self.pinned = PinnedPullers(bus, self.room, [self.interactive], _N, self.take, *more)

    def send(self, engine: str, delivered: int = 1, wait: str = "") -> None:
        """A job comes for the cache of an engine. `wait`: milliseconds that it may wait for it."""
        inbox, headers = self.bus.subscriptions[1].subject, {WANTED_ENGINE: engine}
        headers |= {WANTED_FOR: wait} if wait else {}
        self.bus.deliver(fakes.message(inbox, b"job", fakes.ack(delivered), headers))

    async def open(self) -> None:
        await self.interactive.open()
        await self.pinned.open()


@pytest.fixture
async def worker(bus: FakeBus, clock: Timers) -> Worker:
    made = Worker(bus, clock)
    await made.open()
    return made


async def test_an_idle_worker_asks_both_lanes(worker: Worker) -> None:
    assert worker.asked() == "in"


async def test_a_pinned_job_takes_a_free_slot_and_the_next_one_is_asked_for(worker: Worker) -> None:
    worker.asked()
    worker.deliver(_N)
    assert (len(worker.jobs), worker.asked()) == (1, "n")


async def test_while_no_pinned_job_waits_an_interactive_one_ends_as_ever(worker: Worker) -> None:
    worker.deliver(_I)
    worker.asked()
    worker.finish()
    assert [each[:4] for each in worker.bus.to(fakes.ack())] == [b"+NXT"]
    assert worker.asked() == "i"
    assert not worker.clock.timers


async def test_one_that_finds_no_slot_waits_for_the_next(worker: Worker) -> None:
    worker.deliver(_I)
    worker.asked()
    worker.deliver(_N)
    assert worker.bus.to(fakes.ack()) == [NAK]
    assert worker.asked() == ""
    worker.finish()
    assert worker.bus.to(fakes.ack())[-1] == ACK, "it does not ask for another interactive job"
    assert (worker.asked(), worker.room.free()) == ("n", 0)
    worker.deliver(_N)
    assert (len(worker.jobs), worker.room.taken) == (1, 1)


async def test_both_lanes_have_every_other_slot(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)  # goes back: one waits
    served = ""
    for _ in range(3):
        worker.asked()
        worker.finish()
        assert worker.asked() == "n"
        worker.deliver(_N)
        worker.deliver(_N)  # the next one waits already
        worker.asked()
        worker.finish()
        assert worker.asked() == "i"
        worker.deliver(_I)
        worker.wait()
        served += "ni"
    assert served == "ni" * 3
    assert worker.room.taken == 1


async def test_without_interactive_jobs_the_next_pinned_one_follows_at_once(
    worker: Worker,
) -> None:
    worker.deliver(_N)
    worker.deliver(_N)
    worker.asked()
    worker.finish()
    assert worker.asked() == "n", "the interactive pull still waits"


async def test_with_no_answer_for_interactive_jobs_the_pinned_one_follows(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.finish()
    worker.deliver(_N)
    worker.deliver(_N)
    worker.asked()
    worker.finish()
    assert worker.asked() == "i"
    worker.wait()
    assert worker.asked() == "n"


async def test_a_slot_that_was_kept_for_nothing_is_interactive(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.finish()
    worker.asked()
    worker.wait()
    assert (worker.room.taken, worker.asked()) == (0, "i")


async def test_a_slot_is_kept_however_late_the_broker_answers(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.finish()
    worker.asked()
    worker.clock.pass_by(PAUSE)
    worker.clock.pass_by(60.0)
    assert worker.room.taken == 1
    worker.deliver(_N)
    worker.answer("409")
    assert (len(worker.jobs), worker.room.taken) == (1, 1)
    assert not worker.clock.timers


async def test_a_slot_is_not_kept_for_ever_for_a_job_that_others_get(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.finish()
    for _ in range(LOOKS):
        assert worker.room.taken == 1
        worker.clock.pass_by(PAUSE)
        worker.answer("409")
    assert worker.room.taken == 0


async def test_after_one_that_failed_the_one_that_waits_is_asked_for_too(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.asked()
    worker.finish(well=False)
    assert worker.asked() == "n"


async def test_closed_it_keeps_no_slot(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.finish()
    assert worker.room.taken == 1
    await worker.pinned.close()
    assert worker.room.taken == 0
    worker.asked()
    worker.pinned.heal(0.0)
    assert worker.asked() == ""


async def test_a_new_connection_knows_of_none_that_waits(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.asked()
    await worker.open()
    assert worker.asked() == "n"
    worker.finish()
    assert worker.asked() == "i"


async def test_a_slot_that_came_free_unnoticed_is_found(worker: Worker) -> None:
    worker.deliver(_I)
    worker.deliver(_N)
    worker.room.release()
    worker.asked()
    worker.pinned.heal(0.0)
    assert worker.asked() == "n"


async def test_its_priority_is_that_of_the_interactive_lane(bus: FakeBus) -> None:
    room = Room(1)
    interactive = Puller(bus, "m", _I, room=room, on_job=print, expires=2.0, priority=3)
    pinned = PinnedPullers(bus, room, [interactive], _N, print, 2.0, E, {})
    await pinned.open()
    pinned.rank("m", 1)
    pinned.rank("another", 5)
    await pinned.open()
    assert [orjson.loads(post.payload)["priority"] for post in bus.posts] == [3, 1]


async def test_a_job_for_the_cache_of_an_engine_is_its(worker: Worker) -> None:
    worker.send(E)
    assert len(worker.jobs) == 1


async def test_without_a_slot_it_goes_back_for_longer_than_it_is_waited_for(worker: Worker) -> None:
    worker.deliver(_I)
    worker.asked()
    worker.send(E)
    (word,) = worker.bus.to(fakes.ack())
    assert word == NAK + b' {"delay": %d}' % (AWAY * 1e9)
    assert worker.asked() == "n", "no job is known to wait"
    worker.finish()
    assert worker.asked() == "i"


async def test_one_for_another_engine_here_is_passed_on(worker: Worker, clock: Timers) -> None:
    other = Worker(FakeBus(), clock)
    worker.neighbours[OTHER] = other.pinned
    worker.asked()
    worker.send(OTHER)
    assert (len(worker.jobs), len(other.jobs)) == (0, 1)
    assert worker.asked() == "n"
    worker.send(OTHER)
    assert (len(worker.jobs), len(other.jobs)) == (1, 1), "that one is full"
    source, _ = other.jobs[0]
    assert source is other.pinned._models[0]


async def test_a_slot_that_is_kept_stays_so_while_jobs_are_passed_on(
    worker: Worker, clock: Timers
) -> None:
    """The job that it is kept for is still to come."""
    other = Worker(FakeBus(), clock)
    worker.neighbours[OTHER] = other.pinned
    worker.deliver(_I)
    worker.deliver(_N)  # goes back: one waits
    worker.finish()
    worker.asked()
    worker.send(OTHER)
    assert (worker.jobs, len(other.jobs)) == ([], 1)
    assert (worker.asked(), worker.room.taken) == ("n", 1)
    worker.deliver(_N)
    assert (len(worker.jobs), worker.room.taken) == (1, 1)


async def test_one_that_was_passed_on_leaves_the_slot_to_others_if_none_comes(
    worker: Worker, clock: Timers
) -> None:
    other = Worker(FakeBus(), clock)
    worker.neighbours[OTHER] = other.pinned
    worker.deliver(_I)
    worker.deliver(_N)
    worker.finish()
    worker.send(OTHER)
    worker.asked()
    worker.wait()
    assert (worker.room.taken, worker.asked()) == (0, "i")


async def test_one_that_is_kept_gets_a_slot_that_came_free_unnoticed(worker: Worker) -> None:
    worker.deliver(_I)
    worker.send(E, wait="500")
    worker.room.size += 1
    worker.pinned.heal(0.0)
    assert len(worker.jobs) == 2


async def test_one_for_another_process_goes_back_once(worker: Worker) -> None:
    elsewhere = engine_of("box.2", "e")
    worker.send(elsewhere)
    assert worker.bus.to(fakes.ack()) == [NAK]
    assert worker.jobs == []
    worker.send(elsewhere, delivered=2)
    assert len(worker.jobs) == 1


async def test_an_engine_that_is_closed_is_no_neighbour(worker: Worker) -> None:
    assert worker.neighbours == {E: worker.pinned}
    await worker.pinned.close()
    assert worker.neighbours == {}


async def test_one_that_is_worth_a_wait_has_the_first_slot_that_comes_free(worker: Worker) -> None:
    worker.deliver(_I)
    worker.asked()
    worker.send(E, wait="500")
    assert worker.bus.to(fakes.ack()) == []
    assert worker.asked() == "n", "others may come for this node meanwhile"
    worker.finish()
    assert (len(worker.jobs), worker.room.taken) == (1, 1)
    assert worker.jobs[0][0] is worker.pinned._models[0]
    assert worker.bus.to(fakes.ack()) == [ACK], "it asks for no job: the slot is taken"
    worker.clock.pass_by(WAIT)
    assert worker.bus.to(fakes.ack()) == [ACK], "it is not given up any more"


async def test_who_has_waited_enough_goes_back(worker: Worker) -> None:
    worker.deliver(_I)
    worker.send(E, wait="500")
    worker.clock.pass_by(WAIT)
    assert worker.bus.to(fakes.ack()) == [NAK + b' {"delay": %d}' % (AWAY * 1e9)]
    worker.finish()
    assert worker.jobs == []


async def test_one_that_is_kept_is_not_delivered_again(worker: Worker) -> None:
    worker.deliver(_I)
    worker.send(E, wait="500")
    worker.pinned.heal(0.0)
    assert worker.bus.to(fakes.ack()) == [IN_PROGRESS]


async def test_the_end_of_a_job_is_heard_of_only_while_one_is_kept(worker: Worker) -> None:
    worker.deliver(_I)
    heard = len(worker.room.on_release)
    worker.send(E, wait="500")
    assert len(worker.room.on_release) == heard + 1
    worker.finish()
    assert len(worker.room.on_release) == heard
    worker.send(E, wait="500")
    await worker.pinned.close()
    assert len(worker.room.on_release) == heard


async def test_what_is_kept_goes_back_when_the_engine_closes(worker: Worker) -> None:
    worker.deliver(_I)
    worker.send(E, wait="500")
    await worker.pinned.close()
    assert worker.bus.to(fakes.ack()) == [NAK]
    worker.finish()
    assert worker.jobs == []


async def test_one_waits_at_the_engine_that_has_its_cache(worker: Worker, clock: Timers) -> None:
    other = Worker(FakeBus(), clock)
    await other.interactive.open()
    worker.neighbours[OTHER] = other.pinned
    other.deliver(_I)
    worker.send(OTHER, wait="500")
    assert (worker.jobs, len(other.jobs)) == ([], 1)
    other.finish()
    assert len(other.jobs) == 1


@pytest.mark.parametrize("wait", ["0", "-1", "soon", "30001", "9" * 5000, "1.5"])
async def test_a_wait_that_no_ingress_allows_is_none(worker: Worker, wait: str) -> None:
    worker.deliver(_I)
    worker.send(E, wait=wait)
    assert worker.bus.to(fakes.ack()) == [NAK + b' {"delay": %d}' % (AWAY * 1e9)]


async def test_so_many_wait_and_no_more(worker: Worker) -> None:
    worker.deliver(_I)
    for _ in range(MOST_KEPT + 1):
        worker.send(E, wait="500")
    assert len(worker.bus.to(fakes.ack())) == 1
