"""Several ingresses at one store: they wait for each other, and never for long."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from ingress.http.auth import Principal
from ingress.limits import limiter as limiters
from ingress.limits.limiter import Limiter
from ingress.limits.permit import Permit
from ingress.limits.store import Alone, Overtaken
from schemas.errors import RateLimited
from schemas.keys import KeyPolicy, Limits
from tests.unit.fakes import PATIENCE

HOUR = 3_600_000


class Slow(Alone):
    """A store whose answers take a turn of the loop, and that counts them."""

    calls = 0

    async def read(self, subject: str) -> tuple[int, bytes]:
        self.calls += 1
        await asyncio.sleep(0)
        return await super().read(subject)

    async def write(self, subject: str, after: int, data: bytes) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        return await super().write(subject, after, data)


def who(**limits: int) -> Principal:
    return Principal("k", KeyPolicy(limits=Limits(**limits)))


async def admitted(limiter: Limiter, who: Principal) -> Permit | None:
    try:
        return await limiter.admit(limiter.keepers(who), "m", 1, 1)
    except RateLimited:
        return None


async def test_ingresses_that_ask_at_once_get_what_there_is() -> None:
    store = Slow()
    four = [Limiter(store, f"in-{number}") for number in range(4)]
    asked = [admitted(limiter, who(requests=50)) for limiter in four for _ in range(30)]
    permits = await asyncio.gather(*asked)
    assert sum(permit is not None for permit in permits) == 50


async def test_requests_of_one_moment_cost_one_write() -> None:
    store = Slow()
    limiter = Limiter(store, "in-1")
    await limiter.clock.read()
    before = store.calls
    permits = await asyncio.gather(*(admitted(limiter, who(requests=100)) for _ in range(40)))
    assert all(permits)
    assert store.calls - before == 2  # the first look, and the lease


async def test_beyond_a_limit_the_store_is_not_asked_each_time() -> None:
    store = Slow()
    limiter = Limiter(store, "in-1")
    assert await admitted(limiter, who(requests=1))
    assert await admitted(limiter, who(requests=1)) is None
    before = store.calls
    refused = [await admitted(limiter, who(requests=1)) for _ in range(100)]
    assert refused == [None] * 100
    assert store.calls == before


async def test_what_is_not_used_is_given_back_unasked() -> None:
    store = Slow()
    one, other = Limiter(store, "in-1"), Limiter(store, "in-2")
    permit = await admitted(one, who(concurrent=1))
    assert permit is not None
    assert await admitted(other, who(concurrent=1)) is None
    permit.leave()
    until = time.monotonic() + PATIENCE
    while await admitted(other, who(concurrent=1)) is None:
        assert time.monotonic() < until
        await asyncio.sleep(0.002)


async def test_a_place_that_comes_free_elsewhere_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that had its answer there may be here sooner than the word of it."""
    monkeypatch.setattr(limiters, "PLACE_PATIENCE", PATIENCE)
    store = Slow()
    one, other = Limiter(store, "in-1"), Limiter(store, "in-2")
    permit = await admitted(one, who(concurrent=1))
    assert permit is not None
    async with asyncio.timeout(PATIENCE / 2):  # here it would be known
        assert await admitted(one, who(concurrent=1)) is None
    waiting = asyncio.create_task(admitted(other, who(concurrent=1)))
    await asyncio.sleep(0)
    permit.leave()
    assert await waiting is not None


async def test_an_ingress_that_ends_gives_all_back() -> None:
    store = Slow()
    one, other = Limiter(store, "in-1"), Limiter(store, "in-2")
    permit = await admitted(one, who(concurrent=1))
    assert permit is not None
    permit.leave()
    await one.close()
    assert await admitted(other, who(concurrent=1))


class Contended(Slow):
    """Somebody is quicker for a while."""

    lost = 0

    async def write(self, subject: str, after: int, data: bytes) -> int:
        if self.lost and subject.startswith("limits.key-"):
            self.lost -= 1
            raise Overtaken(subject)
        return await super().write(subject, after, data)


async def test_it_is_tried_again_when_others_were_quicker() -> None:
    store = Contended()
    store.lost = 5
    assert await admitted(Limiter(store, "in-1"), who(requests=1))


async def test_an_ingress_that_never_reached_the_store_ends() -> None:
    limiter = Limiter(Slow(), "in-1")
    assert limiter.keepers(who(requests=1))
    await limiter.close()


class Stepped(Alone):
    """A store whose clock is set."""

    set_by = 0

    async def time(self) -> int:
        return await super().time() + self.set_by


@pytest.mark.parametrize("steps", [(HOUR, -2 * HOUR), (-HOUR, 3 * HOUR), (-HOUR, -HOUR)])
async def test_a_step_of_the_brokers_clock_opens_no_window_and_closes_none(
    steps: tuple[int, int],
) -> None:
    store = Stepped()
    limiters = [Limiter(store, f"in-{number}") for number in range(3)]
    one, other, third = limiters
    for each in (one, other):
        await each.clock.read()
    assert await admitted(one, who(requests=2))
    store.set_by += steps[0]
    await other.clock.read()  # who notices first makes up for it, for those who come later, too
    assert await admitted(other, who(requests=2))
    assert await admitted(third, who(requests=2)) is None
    store.set_by += steps[1]
    for each in (*limiters, last := Limiter(store, "in-4")):
        await each.clock.read()
        assert await admitted(each, who(requests=2)) is None
        refusal = await refused(each, who(requests=2))
        assert 50 < (refusal.retry_after or 0) < 62
    assert last.clock.is_known


async def refused(limiter: Limiter, who: Principal) -> RateLimited:
    with pytest.raises(RateLimited) as fault:
        await limiter.admit(limiter.keepers(who), "m", 1, 1)
    return fault.value


def test_what_is_due_at_once_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop's handle for it does not tell its time, unlike one for later."""

    async def twice() -> int:
        store = Slow()
        limiter = Limiter(store, "in-1")
        await limiter.clock.read()
        before = store.calls
        [keeper] = limiter.keepers(who(requests=1))
        dues = iter([0, 0, 0])
        monkeypatch.setattr(keeper.share, "due", lambda _: next(dues, None))
        keeper.touch()
        keeper.touch()
        await asyncio.sleep(0.05)
        keeper.close()
        return store.calls - before

    assert uvloop.run(twice()) <= 2
