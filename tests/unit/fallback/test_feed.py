"""The books are read whole and in order, whatever the connection does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fallback import feed
from fallback.credits import entries
from fallback.credits.entries import Entry, Kind
from fallback.feed import Follower
from schemas.bus import BusError
from tests.unit import fakes
from tests.unit.fallback.credits.counter_stream import START, CounterBus, Counters, subject


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def bus(counters: Counters) -> CounterBus:
    return CounterBus(counters)


def grant(counters: Counters, *numbers: int, account: str = "acme") -> None:
    for number in numbers:
        counters.write(subject(account), entries.headers(Kind.GRANT, number, f"g{number}"))


class Reader:
    """What a follower has handed over; `until` waits for so many."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self._news = asyncio.Event()

    def __call__(self, entry: Entry) -> None:
        self.found.append(entry.change)
        self._news.set()

    async def until(self, count: int) -> list[int]:
        async with asyncio.timeout(fakes.PATIENCE):
            while len(self.found) < count:
                self._news.clear()
                await self._news.wait()
        return self.found


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
async def follower(bus: CounterBus, reader: Reader) -> AsyncIterator[Follower]:
    made = Follower(bus, reader)
    yield made
    await made.close()


async def test_what_is_there_and_what_comes(
    counters: Counters, reader: Reader, follower: Follower
) -> None:
    grant(counters, 1, 2)
    assert await follower.open(START, 2)
    grant(counters, 3)
    assert await reader.until(3) == [1, 2, 3]
    assert (follower.first, follower.seq) == (1, 3)


async def test_what_is_older_is_left_out(
    counters: Counters, reader: Reader, follower: Follower
) -> None:
    grant(counters, 1, 2)
    assert not await follower.open(START + 1, 2)
    assert (follower.first, follower.seq) == (3, 2)
    counters.now = START + 2
    grant(counters, 3)
    assert await reader.until(1) == [3]


async def test_a_reconnection_goes_on_after_the_last(
    counters: Counters, bus: CounterBus, reader: Reader, follower: Follower
) -> None:
    grant(counters, 1)
    await follower.open(START, 1)
    await reader.until(1)
    counters.consumers.clear()  # the old one is no more
    grant(counters, 2, 3)
    await bus.reconnect()
    assert await reader.until(3) == [1, 2, 3]
    assert bus.api_calls[-1][1]["config"]["opt_start_seq"] == 2


async def test_a_hole_is_read_again(
    counters: Counters, bus: CounterBus, reader: Reader, follower: Follower
) -> None:
    grant(counters, 1)
    await follower.open(START, 1)
    await reader.until(1)
    bus.held = True
    grant(counters, 2, 3)
    counters.consumers[0].next = 3  # 2 is lost on the way
    bus.held = False
    grant(counters, 4)
    assert await reader.until(4) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "said",
    [{"Status": "100", "Nats-Last-Stream": "2"}, {"Status": "409"}],
    ids=["heartbeat ahead", "consumer deleted"],
)
async def test_a_loss_that_only_the_broker_tells(
    counters: Counters, bus: CounterBus, reader: Reader, follower: Follower, said: dict[str, str]
) -> None:
    grant(counters, 1)
    await follower.open(START, 1)
    await reader.until(1)
    bus.held = True
    grant(counters, 2)
    bus.held = False
    counters.consumers.clear()
    bus.status(said)
    assert await reader.until(2) == [1, 2]


async def test_silence_is_a_loss(
    counters: Counters,
    bus: CounterBus,
    reader: Reader,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT", 0.01)
    await follower.open(START, 0)
    counters.consumers.clear()
    grant(counters, 1)
    assert await reader.until(1) == [1]


async def test_it_is_tried_until_the_broker_is_back(
    counters: Counters,
    bus: CounterBus,
    reader: Reader,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "PAUSE", 0.0)
    await follower.open(START, 0)
    counters.consumers.clear()
    bus.away = True
    await bus.reconnect()
    await fakes.turns(20)
    grant(counters, 1)
    bus.away = False
    assert await reader.until(1) == [1]


async def test_a_stalled_flow_is_told_to_go_on(bus: CounterBus, follower: Follower) -> None:
    await follower.open(START, 0)
    bus.status({"Status": "100"}, reply="$JS.FC.CREDITS.c.x")
    bus.status({"Status": "100", "Nats-Consumer-Stalled": "$JS.FC.CREDITS.c.y"})
    assert [post.subject for post in bus.posts] == ["$JS.FC.CREDITS.c.x", "$JS.FC.CREDITS.c.y"]


async def test_reading_ends_with_what_is_there(counters: Counters, bus: CounterBus) -> None:
    assert [entry async for entry in feed.read(bus)] == []
    grant(counters, 1)
    grant(counters, 2, account="other")
    counters.now = START + 10
    grant(counters, 3)
    assert [entry.change async for entry in feed.read(bus)] == [1, 2, 3]
    assert [entry.change async for entry in feed.read(bus, "acme")] == [1, 3]
    assert [entry.change async for entry in feed.read(bus, since=START + 5)] == [3]
    assert [entry.change async for entry in feed.read(bus, after=1)] == [2, 3]
    assert bus.subscriptions == []


async def test_reading_does_not_wait_for_ever(
    counters: Counters, bus: CounterBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PATIENCE", 0.0)
    grant(counters, 1)
    bus.held = True
    with pytest.raises(BusError, match="fell silent"):
        [entry async for entry in feed.read(bus)]
    assert bus.subscriptions == []
