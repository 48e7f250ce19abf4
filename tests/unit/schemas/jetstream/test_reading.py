"""A stream is read whole and in order, whatever the connection does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from schemas.bus import BusError, Message
from schemas.jetstream import reading
from schemas.jetstream.reading import Follower
from tests.unit import fakes
from tests.unit.fake_stream import START, FakeStream, StreamBus

STREAM = "CREDITS"


@pytest.fixture
def stream() -> FakeStream:
    return FakeStream(STREAM)


@pytest.fixture
def bus(stream: FakeStream) -> StreamBus:
    return StreamBus(stream)


def write(stream: FakeStream, *numbers: int, subject: str = "a.1") -> None:
    for number in numbers:
        stream.add(subject, b"%d" % number)


class Reader:
    """What a follower has handed over; `until` waits for so many."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self._news = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.found.append(int(message.data))
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
async def follower(bus: StreamBus, reader: Reader) -> AsyncIterator[Follower]:
    made = Follower(bus, STREAM, reader)
    yield made
    await made.close()


async def test_what_is_there_and_what_comes(
    stream: FakeStream, reader: Reader, follower: Follower
) -> None:
    write(stream, 1, 2)
    assert await follower.open(START, 2)
    write(stream, 3)
    assert await reader.until(3) == [1, 2, 3]
    assert (follower.first, follower.seq) == (1, 3)


async def test_what_is_older_is_left_out(
    stream: FakeStream, reader: Reader, follower: Follower
) -> None:
    write(stream, 1, 2)
    assert not await follower.open(START + 1, 2)
    assert (follower.first, follower.seq) == (3, 2)
    stream.now = START + 2
    write(stream, 3)
    assert await reader.until(1) == [3]


async def test_a_reconnection_goes_on_after_the_last(
    stream: FakeStream, bus: StreamBus, reader: Reader, follower: Follower
) -> None:
    write(stream, 1)
    await follower.open(START, 1)
    await reader.until(1)
    stream.consumers.clear()  # the old one is no more
    write(stream, 2, 3)
    await bus.reconnect()
    assert await reader.until(3) == [1, 2, 3]
    assert bus.api_calls[-1][1]["config"]["opt_start_seq"] == 2


async def test_what_an_earlier_consumer_sends_late_is_not_used_twice(
    stream: FakeStream, bus: StreamBus, reader: Reader, follower: Follower
) -> None:
    write(stream, 1)
    await follower.open(START, 1)
    await reader.until(1)
    late = bus.subscriptions[0].handler
    await bus.reconnect()
    write(stream, 2)
    await reader.until(2)
    late(stream.delivery(2))
    late(stream.delivery(1))
    write(stream, 3)
    assert await reader.until(3) == [1, 2, 3]


async def test_a_hole_is_read_again(
    stream: FakeStream, bus: StreamBus, reader: Reader, follower: Follower
) -> None:
    write(stream, 1)
    await follower.open(START, 1)
    await reader.until(1)
    bus.held = True
    write(stream, 2, 3)
    stream.consumers[0].next = 3  # 2 is lost on the way
    bus.held = False
    write(stream, 4)
    assert await reader.until(4) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "said",
    [{"Status": "100", "Nats-Last-Consumer": "2"}, {"Status": "409"}],
    ids=["heartbeat ahead", "consumer deleted"],
)
async def test_a_loss_that_only_the_broker_tells(
    stream: FakeStream, bus: StreamBus, reader: Reader, follower: Follower, said: dict[str, str]
) -> None:
    write(stream, 1)
    await follower.open(START, 1)
    await reader.until(1)
    bus.held = True
    write(stream, 2)
    bus.held = False
    stream.consumers.clear()
    bus.status(said)
    assert await reader.until(2) == [1, 2]


async def test_a_heartbeat_is_no_loss(
    stream: FakeStream, bus: StreamBus, reader: Reader, follower: Follower
) -> None:
    write(stream, 1)
    await follower.open(START, 1)
    await reader.until(1)
    bus.status({"Status": "100", "Nats-Last-Consumer": "1"})
    await fakes.turns()
    assert len(stream.consumers) == 1


async def test_silence_is_a_loss(
    stream: FakeStream,
    bus: StreamBus,
    reader: Reader,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "HEARTBEAT", 0.01)
    await follower.open(START, 0)
    stream.consumers.clear()
    write(stream, 1)
    assert await reader.until(1) == [1]


async def test_what_replaces_is_read_from_the_start_after_each_loss(
    stream: FakeStream, bus: StreamBus, reader: Reader
) -> None:
    begun: list[int] = []
    made = Follower(bus, STREAM, reader, lambda: begun.append(len(reader.found)))
    write(stream, 1, 2)
    await made.open(0.0, 0)
    assert await reader.until(2) == [1, 2]
    stream.consumers.clear()
    await bus.reconnect()
    assert await reader.until(4) == [1, 2, 1, 2]
    write(stream, 3)
    assert await reader.until(5) == [1, 2, 1, 2, 3]
    assert begun == [0, 2]
    await made.close()


async def test_messages_that_others_replaced_are_no_loss(
    stream: FakeStream, bus: StreamBus, reader: Reader
) -> None:
    """Sequences have holes then, and numbers of deliveries have none."""
    made = Follower(bus, STREAM, reader, lambda: None)
    await made.open(0.0, 0)
    write(stream, 1)
    bus.held = True
    write(stream, 2, 3)
    bus.held = False
    stream.consumers[0].next = 4
    await reader.until(1)
    bus.deliver_to(stream.consumers[0].inbox, stream.delivery(3, number=2))
    assert await reader.until(2) == [1, 3]
    await fakes.turns()
    assert len(stream.consumers) == 1
    await made.close()


async def test_it_is_tried_until_the_broker_is_back(
    stream: FakeStream,
    bus: StreamBus,
    reader: Reader,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "PAUSE", 0.0)
    await follower.open(START, 0)
    stream.consumers.clear()
    bus.away = True
    await bus.reconnect()
    await fakes.turns(20)
    write(stream, 1)
    bus.away = False
    assert await reader.until(1) == [1]


async def test_a_stalled_flow_is_told_to_go_on(bus: StreamBus, follower: Follower) -> None:
    await follower.open(START, 0)
    bus.status({"Status": "100"}, reply="$JS.FC.CREDITS.c.x")
    bus.status({"Status": "100", "Nats-Consumer-Stalled": "$JS.FC.CREDITS.c.y"})
    assert [post.subject for post in bus.posts] == ["$JS.FC.CREDITS.c.x", "$JS.FC.CREDITS.c.y"]


async def read(bus: StreamBus, **where: Any) -> list[int]:
    return [int(message.data) async for message in reading.read(bus, STREAM, **where)]


async def test_reading_ends_with_what_is_there(stream: FakeStream, bus: StreamBus) -> None:
    assert await read(bus) == []
    assert bus.posts == [], "nothing is asked for where nothing is"
    write(stream, 1)
    write(stream, 2, subject="a.2")
    stream.now = START + 10
    write(stream, 3)
    assert await read(bus) == [1, 2, 3]
    assert await read(bus, subject="a.1") == [1, 3]
    assert await read(bus, since=START + 5) == [3]
    assert await read(bus, after=1) == [2, 3]
    assert bus.subscriptions == []


async def test_what_comes_while_it_reads_is_left_out(stream: FakeStream, bus: StreamBus) -> None:
    write(stream, 1, 2)
    found = []
    async for message in reading.read(bus, STREAM):
        found.append(int(message.data))
        write(stream, 3)
    assert found == [1, 2]


async def test_no_more_is_asked_for_than_can_be_kept(
    stream: FakeStream, bus: StreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 2)
    write(stream, *range(5))
    async with aclosing(reading.read(bus, STREAM)) as found:
        for _ in range(2):
            await anext(found)
        assert [post.payload for post in bus.posts] == [b'{"batch":2,"no_wait":true}']
        assert [int(message.data) async for message in found] == [2, 3, 4]
    assert [post.payload for post in bus.posts[1:]] == [
        b'{"batch":2,"no_wait":true}', b'{"batch":1,"no_wait":true}',
    ]  # fmt: skip


async def test_reading_does_not_wait_for_ever(
    stream: FakeStream, bus: StreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.0)
    write(stream, 1)
    bus.held = True
    with pytest.raises(BusError, match="fell silent"):
        await read(bus)
    assert bus.subscriptions == []


async def test_reading_fails_as_the_broker_says(stream: FakeStream, bus: StreamBus) -> None:
    write(stream, 1)
    bus.held = True
    task = asyncio.create_task(read(bus))
    await bus.until(lambda posts: posts)
    bus.status({"Status": "409", "Description": "Consumer Deleted"})
    with pytest.raises(BusError, match="CREDITS cannot be read: Consumer Deleted"):
        await task


async def rolled(bus: StreamBus, **where: Any) -> list[int]:
    return [int(m.data) async for m in reading.read_rolled(bus, STREAM, **where)]


async def test_what_is_rolled_up_is_looked_at_again(
    stream: FakeStream, bus: StreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(stream, 1, 2, 3)
    assert await rolled(bus) == [1, 2, 3]
    consume, counts = stream.consume, [4, 1, 0]

    def counted(*given: Any) -> dict[str, Any]:
        """One of four is replaced before it comes; what replaced it came meanwhile."""
        if len(counts) == 2:
            write(stream, 4)
        return {**consume(*given), "num_pending": counts.pop(0)}

    monkeypatch.setattr(stream, "consume", counted)
    assert await rolled(bus) == [1, 2, 3, 4]
    made = [body["config"]["name"] for verb, body in bus.api_calls if "CREATE" in verb]
    gone = [post.subject for post in bus.posts if ".DELETE." in post.subject]
    assert gone == [f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}" for name in made]


@pytest.mark.parametrize("counts", [[2, 1], [0, 3], [0, 2, 1]])
async def test_what_the_broker_does_not_count_is_found_all_the_same(
    stream: FakeStream, bus: StreamBus, monkeypatch: pytest.MonkeyPatch, counts: list[int]
) -> None:
    write(stream, 1, 2, 3)
    consume = stream.consume
    monkeypatch.setattr(
        stream, "consume", lambda *given: {**consume(*given), "num_pending": counts.pop(0)}
    )
    assert await rolled(bus) == [1, 2, 3]
    assert counts == []


async def test_nothing_since_then_is_nothing(stream: FakeStream, bus: StreamBus) -> None:
    write(stream, 1)
    assert await rolled(bus, since=START + 1) == []


@pytest.mark.parametrize("code", ["404", "408"])
async def test_nothing_left_is_no_fault_of_what_is_rolled_up(
    stream: FakeStream, bus: StreamBus, code: str
) -> None:
    write(stream, 1)
    bus.held = True
    found = asyncio.create_task(rolled(bus))
    while not any(".MSG.NEXT." in post.subject for post in bus.posts):
        await asyncio.sleep(0)
    bus.held = False
    bus.status({"Status": code})
    assert await found == [1]


async def test_it_is_not_looked_at_for_ever(
    stream: FakeStream, bus: StreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(stream, 1)
    consume = stream.consume
    monkeypatch.setattr(stream, "consume", lambda *given: {**consume(*given), "num_pending": 2})

    async def nothing(*_: object) -> Message:
        raise reading.NothingLeft("none")

    monkeypatch.setattr(reading._Pulled, "_next", nothing)
    with pytest.raises(BusError, match="changes too fast"):
        await rolled(bus)
    assert sum("CREATE" in verb for verb, _ in bus.api_calls) == reading.LOOKS


async def test_of_a_stream_that_keeps_all_nothing_may_be_missing(
    stream: FakeStream, bus: StreamBus
) -> None:
    write(stream, 1)
    bus.held = True
    found = asyncio.create_task(anext(reading.read(bus, STREAM)))
    while not any(".MSG.NEXT." in post.subject for post in bus.posts):
        await asyncio.sleep(0)
    bus.status({"Status": "404", "Description": "No Messages"})
    with pytest.raises(BusError, match="No Messages"):
        await found
