"""Places that owners share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.turns import TooManyWait, Turns


class World:
    """Holds places until told: `running`, in the order in which they were given."""

    def __init__(self, places: int, share: int, waiting: int = 100) -> None:
        self.turns = Turns(places, share, waiting)
        self.running: list[str] = []
        self._ends: dict[asyncio.Task[None], tuple[str, asyncio.Event]] = {}

    async def ask(self, *owners: str) -> None:
        for owner in owners:
            end = asyncio.Event()
            self._ends[asyncio.create_task(self._hold(owner, end))] = owner, end
        await self.settle()

    async def _hold(self, owner: str, end: asyncio.Event) -> None:
        async with self.turns.turn(owner):
            self.running.append(owner)
            try:
                await end.wait()
            finally:
                self.running.remove(owner)

    async def end(self, owner: str) -> None:
        """The first one of an owner that runs, or waits, ends."""
        task, (_, end) = next(each for each in self._ends.items() if each[1][0] == owner)
        end.set()
        del self._ends[task]
        await self.settle()

    async def leave(self, owner: str) -> None:
        """The last one of an owner is cancelled."""
        task = [each for each, (name, _) in self._ends.items() if name == owner][-1]
        task.cancel()
        del self._ends[task]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._ends:
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)


async def test_one_owner_has_its_share_and_no_more() -> None:
    world = World(4, 2)
    await world.ask(*"aaaaaa", "b")
    assert world.running == ["a", "a", "b"]
    await world.end("a")
    assert sorted(world.running) == ["a", "a", "b"]
    await world.close()


async def test_a_place_goes_to_who_has_fewest_then_to_who_waits_longest() -> None:
    world = World(2, 2)
    await world.ask("a", "a", "a", "c", "b", "b")
    await world.end("a")
    assert world.running == ["a", "c"]
    await world.end("a")
    assert world.running == ["c", "a"]
    await world.end("c")
    assert world.running == ["a", "b"]
    await world.close()


async def test_who_leaves_waits_no_more_and_its_place_is_free() -> None:
    world = World(1, 1)
    await world.ask("a", "b", "c")
    await world.leave("b")
    await world.leave("a")
    assert world.running == ["c"]
    await world.close()


async def test_more_than_may_wait_are_turned_away() -> None:
    world = World(1, 1, waiting=1)
    await world.ask("a", "a")
    with pytest.raises(TooManyWait):
        async with world.turns.turn("a"):
            pass
    await world.ask("b")
    await world.close()


@given(st.data(), st.integers(1, 4), st.integers(1, 4))
async def test_no_place_is_lost_and_no_share_exceeded(
    data: st.DataObject, places: int, share: int
) -> None:
    world = World(places, share)
    present = Counter[str]()
    for _ in range(data.draw(st.integers(0, 30))):
        owner = data.draw(st.sampled_from("abc"))
        act = data.draw(st.sampled_from(["ask", "end", "leave"]))
        if act != "ask" and not present[owner]:
            continue
        present[owner] += 1 if act == "ask" else -1
        await getattr(world, act)(owner)
        running = Counter(world.running)
        assert max(running.values(), default=0) <= share
        able = sum(min(share, count) for count in present.values())
        assert running.total() == min(places, able), "a place is free, and somebody waits"
    await world.close()


async def test_work_is_done_aside_one_at_a_time() -> None:
    turns, running, most = Turns(1, 1, 2), Counter[str](), 0

    def work() -> int:
        nonlocal most
        running["all"] += 1
        most = max(most, running["all"])
        time.sleep(0.001)
        running["all"] -= 1
        return threading.get_ident()

    found = await asyncio.gather(*(turns.run_aside(owner, work) for owner in "abc"))
    assert most == 1
    assert threading.get_ident() not in found
