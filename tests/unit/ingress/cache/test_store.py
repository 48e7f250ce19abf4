"""Kept answers in memory, and a broker that has them, has none, or is away."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.msg import Msg

from ingress.cache import store as stores
from ingress.cache.store import Entry, Local, Store
from schemas.bus import ApiError, BusError, Message
from schemas.jobs import CodecError
from schemas.settings import Cache
from tests.unit.fakes import FakeBus

NOW = 1_000_000.0


def entry(body: bytes = b"body", made: float = NOW) -> Entry:
    return Entry("d", "application/json", made, body)


class World:
    def __init__(self, **settings: Any) -> None:
        self.now = NOW
        self.bus = FakeBus("_I.test")
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.bus.answer = self._answer
        self.bus.api_answer = lambda verb, body: {"config": body or {}}
        config = Cache.model_validate({"memory": 8192, **settings})
        self.store = Store(self.bus, config, 1, lambda: self.now)

    async def _answer(self, subject: str, _: bytes) -> Message:
        self.asked.append(subject)
        data = self.stored.get(subject.rpartition(".")[2])
        message: Any = Msg(None, "x", "", data or b"", {"Nats-Sequence": "1"} if data else {})  # type: ignore[arg-type]
        found: Message = message
        return found


def test_an_entry_is_read_as_it_was_written() -> None:
    assert stores.unpack(stores.pack(entry(b"a\nb\0"))) == entry(b"a\nb\0")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"[]\n", b'["d","t"]\n', b'["d","t","1"]\nx', b'["d","t",-1.0]\nx', b"{}\n"],
)
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        stores.unpack(data)


def test_memory_has_what_was_used_last() -> None:
    local = Local(3 * (100 + 512))
    for name in "abc":
        local.put(name, entry(b"x" * 100))
    local.get("a")
    local.put("d", entry(b"x" * 100))
    assert [name for name in "abcd" if local.get(name)] == ["a", "c", "d"]


def test_an_entry_that_is_larger_than_memory_is_not_in_it() -> None:
    local = Local(1000)
    local.put("a", entry(b"x" * 2000))
    assert local.get("a") is None


async def test_what_is_kept_is_found_until_its_time_is_up() -> None:
    world = World(ttl=60)
    world.store.keep("n", entry())
    assert await world.store.find("n") == entry()
    world.now += 61
    assert world.store.here("n") is None
    assert world.asked == []


async def test_the_broker_is_asked_for_what_is_not_here_and_then_it_is() -> None:
    world = World()
    world.stored["n"] = stores.pack(entry())
    assert [await world.store.find("n") for _ in range(2)] == [entry()] * 2
    assert world.asked == ["$JS.API.DIRECT.GET.CACHE.kept.n"]


async def test_the_brokers_entry_may_be_too_old() -> None:
    world = World(ttl=60)
    world.stored["n"] = stores.pack(entry(made=NOW - 61))
    assert await world.store.find("n") is None


async def test_what_the_broker_has_not_is_not_asked_for_again_at_once() -> None:
    world = World()
    assert [await world.store.find("n") for _ in range(3)] == [None] * 3
    assert len(world.asked) == 1
    world.store.keep("n", entry())
    assert await world.store.find("n") == entry()


async def test_garbage_in_the_broker_is_no_entry() -> None:
    world = World()
    world.stored["n"] = b"garbage"
    assert await world.store.find("n") is None


async def test_a_broker_that_fails_is_left_alone_for_a_while() -> None:
    world = World()

    async def fails(subject: str, _: bytes) -> Message:
        world.asked.append(subject)
        raise BusError("away")

    world.bus.answer = fails
    assert await world.store.find("a") is None
    assert await world.store.find("b") is None
    assert len(world.asked) == 1
    world.store.keep("a", entry())
    assert await world.store.find("a") == entry()


async def test_nothing_is_asked_without_a_connection() -> None:
    world = World()
    world.bus.up = False
    assert await world.store.find("n") is None
    await world.store.share("n", entry())
    assert not world.asked
    assert not world.bus.posts


async def test_what_is_shared_goes_to_the_stream() -> None:
    world = World()
    await world.store.share("n", entry())
    assert world.bus.to("kept.n") == [stores.pack(entry())]
    assert world.bus.api_calls[0][0] == "STREAM.INFO.CACHE"


async def test_where_the_stream_cannot_be_made_memory_does() -> None:
    world = World()

    def refused(verb: str, body: Any) -> dict[str, Any]:
        raise ApiError(verb, {"err_code": 10047})

    world.bus.api_answer = refused
    await world.store.share("n", entry())
    await world.store.share("m", entry())
    assert world.bus.posts == []
    assert len(world.bus.api_calls) == 1  # it is tried again after a while


async def test_what_is_too_large_is_not_kept() -> None:
    world = World(largest=1024, memory=2**20)
    world.store.keep("n", entry(b"x" * 1025))
    await world.store.share("n", entry(b"x" * 1025))
    assert world.store.here("n") is None
    assert world.bus.posts == []


async def test_what_no_message_takes_is_in_memory_alone() -> None:
    world = World(largest=2**21, memory=2**22)
    large = entry(b"x" * 2**20)
    world.store.keep("n", large)
    await world.store.share("n", large)
    assert world.store.here("n") == large
    assert world.bus.posts == []


async def test_many_are_asked_for_at_once_up_to_a_bound() -> None:
    world = World(memory=2**22)
    names = [f"n{number}" for number in range(stores.MOST_ASKED + 5)]
    world.stored = {name: stores.pack(entry()) for name in names}
    world.store.keep(names[0], entry())
    found = await world.store.find_all([*names, names[1]])
    assert list(found) == names[: stores.MOST_ASKED + 1]
    assert len(world.asked) == stores.MOST_ASKED
