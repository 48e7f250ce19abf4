"""Requests for several messages at once, at a real broker, with the login of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schemas import subjects, topology
from schemas.bus import Bus, Message
from schemas.jetstream import streams
from schemas.jetstream.pulls import Pulls, Room
from schemas.jetstream.words import Status
from schemas.settings import Jobs
from tests.fabric import PATIENCE, Fabric

LANE = subjects.INTERACTIVE
JOB = subjects.jobs("m", LANE, "t")


class Worker:
    """Takes jobs into a room, and never ends them but by `end`."""

    def __init__(self, bus: Bus, news: asyncio.Event, slots: int, **terms: Any) -> None:
        self.bus = bus
        self.room = Room(slots)
        self.jobs: list[Message] = []
        self.statuses: list[Status] = []
        self._news = news
        self.fills = False
        """It asks again when a request expires."""
        self.pulls = Pulls(
            bus,
            subjects.JOBS_STREAM,
            subjects.consumer("m", LANE),
            on_status=self._hear,
            on_message=self._take,
            room=self.room,
            **{"expires": 5.0, "priority": 0, **terms},
        )

    def _hear(self, status: Status) -> None:
        self.statuses.append(status)
        self._news.set()
        if self.fills:
            self.pulls.fill()

    def _take(self, message: Message) -> None:
        self.room.take()
        self.jobs.append(message)
        self._news.set()

    def end(self) -> None:
        self.room.untake()
        self.pulls.finish(self.jobs.pop(0).reply)

    async def ask(self) -> None:
        """All that there is room for; the broker has it once this returns."""
        await self.pulls.open()
        self.pulls.fill()
        await self.bus.flush()


class House:
    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.news = asyncio.Event()
        self.buses: list[Bus] = []

    async def open(self, **consumer: Any) -> None:
        self.admin = await self.fabric.admin()
        self.buses.append(self.admin)
        await streams.ensure(self.admin, topology.streams(Jobs(), 1))
        if consumer.pop("missing", False):
            return
        config = {**topology.consumer("m", LANE, 30.0, 1), **consumer}
        await streams.ensure_consumer(self.admin, subjects.JOBS_STREAM, config)

    async def worker(self, name: str, slots: int, **terms: Any) -> Worker:
        bus = await self.fabric.connection("worker", f"_W.{name}.0")
        self.buses.append(bus)
        return Worker(bus, self.news, slots, **terms)

    async def publish(self, jobs: int) -> None:
        for _ in range(jobs):
            await self.admin.request(JOB, b"job")

    async def until(self, enough: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not enough():
                self.news.clear()
                await self.news.wait()

    async def waiting(self, requests: int) -> None:
        """Until so many requests wait at the broker."""
        verb = f"CONSUMER.INFO.{subjects.JOBS_STREAM}.{subjects.consumer('m', LANE)}"
        async with asyncio.timeout(PATIENCE):
            while (await self.admin.api(verb))["num_waiting"] != requests:
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for bus in self.buses:
            await bus.close()


@pytest.fixture
async def house(fabric: Fabric) -> Any:
    made = House(fabric)
    yield made
    await made.close()


async def test_requests_for_many_are_served_in_turn(house: House) -> None:
    """Of two idle engines neither gets all, whoever asked first."""
    await house.open()
    workers = [await house.worker(name, 8) for name in ("a", "b")]
    for worker in workers:
        await worker.ask()
    await house.waiting(2)
    await house.publish(8)
    await house.until(lambda: sum(len(worker.jobs) for worker in workers) == 8)
    assert [len(worker.jobs) for worker in workers] == [4, 4]
    assert [len(worker.pulls) for worker in workers] == [4, 4]


async def test_the_lower_priority_gets_what_is_over(house: House) -> None:
    await house.open()
    slow, fast = await house.worker("slow", 8, priority=5), await house.worker("fast", 3)
    for worker in (slow, fast):
        await worker.ask()
    await house.waiting(2)
    await house.publish(5)
    await house.until(lambda: len(slow.jobs) + len(fast.jobs) == 5)
    assert (len(fast.jobs), len(slow.jobs)) == (3, 2)
    fast.end()  # acks, and asks for the next in the same message
    await fast.bus.flush()
    await house.waiting(2)
    await house.publish(1)
    await house.until(lambda: len(fast.jobs) == 3)


async def test_what_it_did_not_get_is_told_when_a_request_expires(house: House) -> None:
    await house.open()
    worker = await house.worker("a", 4, expires=1.0)
    await worker.ask()
    await house.publish(1)
    await house.until(lambda: worker.statuses)
    (status,) = worker.statuses
    assert (status.expired, status.left, len(worker.jobs)) == (True, 3, 1)
    worker.pulls.fill()
    await house.publish(3)
    await house.until(lambda: len(worker.jobs) == 4)
    assert len(worker.pulls) == 0


async def test_one_that_finds_no_room_at_the_broker_is_refused_as_a_whole(house: House) -> None:
    await house.open(max_waiting=1)
    first, second = await house.worker("a", 3), await house.worker("b", 4)
    await first.ask()
    await second.ask()
    await house.until(lambda: second.statuses)
    (status,) = second.statuses
    assert (status.code, status.left, len(second.pulls)) == ("409", 4, 0)
    await house.publish(3)
    await house.until(lambda: len(first.jobs) == 3)


async def test_without_a_consumer_all_of_it_is_absent(house: House) -> None:
    await house.open(missing=True)
    worker = await house.worker("a", 4)
    await worker.ask()
    await house.until(lambda: worker.statuses)
    (status,) = worker.statuses
    assert (status.absent, status.left, len(worker.pulls)) == (True, 4, 0)


async def test_on_a_new_connection_all_is_asked_for_again(house: House) -> None:
    await house.open()
    worker = await house.worker("a", 4)
    await worker.ask()
    await house.publish(1)
    await house.until(lambda: worker.jobs)
    await worker.bus.renew()
    await worker.ask()
    assert len(worker.pulls) == 3
    await house.waiting(1)
    await house.publish(3)
    await house.until(lambda: len(worker.jobs) == 4)


async def test_requests_of_one_each_become_one_again(house: House) -> None:
    """Jobs end one by one, and then none comes."""
    await house.open()
    worker = await house.worker("a", 6, expires=1.0)
    await worker.ask()
    await house.publish(6)
    await house.until(lambda: len(worker.jobs) == 6)
    for _ in range(6):
        worker.end()
        await worker.bus.flush()
    await house.waiting(6)
    worker.fills = True
    await house.waiting(1)
    assert len(worker.pulls) == 6
