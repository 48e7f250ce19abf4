from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from schemas import subjects
from schemas.bus import BusError
from schemas.jetstream import records
from schemas.jetstream.records import Records
from tests.unit import fakes
from tests.unit.fakes import FakeBus


class StreamOfRecords:
    """The last record of each subject, as the broker gives them out."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.last: dict[str, tuple[int, bytes]] = {}
        self.refuses = False
        self.reads = 0
        self.answered = 0

    def write(self, subject: str, data: bytes, *, told: bool = True) -> None:
        place = max([0, *(place for place, _ in self.last.values())]) + 1
        self.last[subject] = place, data
        if told:
            self.tell(subject)

    def tell(self, subject: str) -> None:
        place, data = self.last[subject]
        headers = {"Nats-Sequence": str(place), "Nats-Subject": subject}
        self.bus.deliver(fakes.message(f"{subjects.CHANGES}.{subject}", data, headers=headers))

    def answer(self) -> None:
        """All questions that came since."""
        for post in self.bus.posts[self.answered :]:
            self.answered += 1
            if post.subject.startswith("$JS.API.DIRECT.GET."):
                self._answer(post.reply, **orjson.loads(post.payload))

    def _answer(self, inbox: str, batch: int, seq: int, next_by_subj: str) -> None:
        assert next_by_subj == ">"
        self.reads += 1
        if self.refuses:
            self.bus.deliver(fakes.message(inbox, b"", headers={"Status": "503"}))
            return
        rest = sorted((place, name) for name, (place, _) in self.last.items() if place >= seq)
        if not rest:
            self.bus.deliver(fakes.message(inbox, b"", headers={"Status": "404"}))
            return
        for place, name in rest[:batch]:
            headers = {"Nats-Subject": name, "Nats-Sequence": str(place)}
            self.bus.deliver(fakes.message(inbox, self.last[name][1], headers=headers))
        left = str(max(0, len(rest) - batch))
        done = {"Status": "204", "Description": "EOB", "Nats-Num-Pending": left}
        self.bus.deliver(fakes.message(inbox, b"", headers=done))


class RecordsSetup:
    def __init__(self, *, optional: bool = False) -> None:
        self.bus = FakeBus()
        self.stream = StreamOfRecords(self.bus)
        self.changes = 0
        self.records = Records(self.bus, "NODES", self._changed, optional=optional)
        self.task = asyncio.create_task(self.records.run())

    def _changed(self) -> None:
        self.changes += 1

    async def serve(self) -> None:
        """Let it ask until it has nothing to ask."""
        for _ in range(20):
            await fakes.turns()
            self.stream.answer()
            await fakes.turns()


@pytest.fixture
async def setup() -> AsyncIterator[RecordsSetup]:
    made = RecordsSetup()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_what_is_there_and_what_comes(setup: RecordsSetup) -> None:
    setup.stream.write("nodes.a", b"1", told=False)
    await setup.serve()
    assert setup.records.last == {"nodes.a": (1, b"1")}
    setup.stream.write("nodes.b", b"2")
    setup.stream.write("nodes.a", b"")
    setup.stream.tell("nodes.a")
    assert setup.records.last == {"nodes.a": (3, b""), "nodes.b": (2, b"2")}
    assert (setup.records.seq, setup.changes) == (3, 3)


async def test_an_empty_stream_is_read_too(setup: RecordsSetup) -> None:
    await setup.serve()
    assert setup.records.read.is_set()
    assert (setup.records.last, setup.changes) == ({}, 1)


async def test_more_than_one_answer_has(
    setup: RecordsSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setup.serve()
    monkeypatch.setattr(records, "_BATCH", 2)
    for number in range(5):
        setup.stream.write(f"nodes.{number}", b"x", told=False)
    await setup.bus.reconnect()
    await setup.serve()
    assert len(setup.records.last) == 5
    assert setup.stream.reads == 1 + 3


async def test_what_comes_while_it_is_read_is_not_lost(setup: RecordsSetup) -> None:
    setup.stream.write("nodes.a", b"1", told=False)
    await fakes.turns()
    setup.stream.write("nodes.b", b"2")
    assert not setup.records.read.is_set()
    del setup.stream.last["nodes.b"]  # it came behind the read
    await setup.serve()
    assert setup.records.last == {"nodes.a": (1, b"1"), "nodes.b": (2, b"2")}


async def test_on_a_new_connection_what_was_missed_is_found(setup: RecordsSetup) -> None:
    setup.stream.write("nodes.a", b"1", told=False)
    setup.stream.write("nodes.b", b"2", told=False)
    await setup.serve()
    setup.stream.write("nodes.a", b"3", told=False)
    del setup.stream.last["nodes.b"]  # its time was over
    await setup.bus.reconnect()
    await setup.serve()
    assert setup.records.last == {"nodes.a": (3, b"3")}
    assert setup.changes == 2


async def test_while_there_is_no_stream_it_asks_again(
    setup: RecordsSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_AGAIN", 0.0)
    setup.stream.refuses = True
    await setup.serve()
    assert not setup.records.read.is_set()
    setup.stream.refuses = False
    await setup.serve()
    assert setup.records.read.is_set()


async def test_a_stream_that_need_not_be_there_is_as_an_empty_one() -> None:
    setup = RecordsSetup(optional=True)
    setup.stream.refuses = True
    await setup.serve()
    assert (setup.records.read.is_set(), setup.records.last, setup.stream.reads) == (True, {}, 1)
    setup.stream.write("nodes.a", b"1")
    assert (setup.records.last, setup.changes) == ({"nodes.a": (1, b"1")}, 1)
    setup.task.cancel()


async def test_a_broker_that_falls_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PATIENCE", 0.001)
    with pytest.raises(BusError, match="silent"):
        await records.read(FakeBus(), "NODES")
