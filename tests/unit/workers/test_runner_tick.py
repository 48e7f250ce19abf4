"""What a runner does twice a second: leases, claims without an answer, engines that hang."""

from __future__ import annotations

import time

import pytest

from schemas.frames import Kind, Op
from tests.unit import fakes
from tests.unit.workers.runner_setup import CONFIG, STALL, Shop
from workers import runner as runners
from workers.consumer import IN_PROGRESS, NAK, TERM
from workers.engines.base import EngineFault


async def test_while_it_runs_the_lease_is_prolonged(shop: Shop) -> None:
    await shop.begin()
    shop.say(Op.GO)
    shop.runner.tick(time.monotonic())
    assert shop.told() == [IN_PROGRESS]
    assert (shop.bus.posts[-1].reply, shop.kinds()[-1]) == ("c.w-1", Kind.ALIVE)
    await shop.runner.abandon("end of test")


async def test_an_unanswered_claim_is_repeated_then_given_up(shop: Shop) -> None:
    await shop.begin()
    began = time.monotonic()
    shop.runner.tick(began + 0.3)
    assert shop.kinds().count(Kind.CLAIM) == 1
    shop.runner.tick(began + 0.8)
    shop.runner.tick(began + 1.3)
    assert shop.kinds().count(Kind.CLAIM) == 3
    shop.runner.tick(began + runners.CLAIM_PATIENCE + 0.3)
    await shop.idle()
    assert shop.engine.cancelled == 1
    assert shop.told()[-1] == TERM


async def test_while_the_broker_is_away_no_claim_is_given_up(shop: Shop) -> None:
    await shop.begin()
    began = time.monotonic()
    shop.bus.up = False
    shop.runner.tick(began + 10)
    shop.bus.up = True
    shop.runner.tick(began + 10 + runners.CLAIM_PATIENCE - 0.1)
    await fakes.turns()
    assert shop.desk.busy == 1
    assert TERM not in shop.told()
    await shop.runner.abandon("end of test")


def unheard(shop: Shop) -> None:
    headers = {"Status": "503", "Nats-Subject": f"r.in-1.{fakes.job().id}"}
    shop.bus.deliver(fakes.message("c.w-1", headers=headers))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The runner's monotonic clock, in its only element."""
    now = [time.monotonic()]
    monkeypatch.setattr(runners, "time", _Clock(now))
    return now


class _Clock:
    def __init__(self, now: list[float]) -> None:
        self._now = now
        self.time = time.time

    def monotonic(self) -> float:
        return self._now[0]


async def test_an_ingress_that_is_gone_has_its_jobs_removed(shop: Shop, clock: list[float]) -> None:
    await shop.begin()
    shop.say(Op.GO)
    for _ in range(7):
        assert shop.desk.busy == 1
        unheard(shop)
        clock[0] += 0.5
        shop.runner.tick(clock[0])  # the lease lives
    unheard(shop)
    await shop.idle()
    assert shop.told()[-1] == TERM


async def test_an_ingress_that_was_away_now_and_then_is_not_gone(
    shop: Shop, clock: list[float]
) -> None:
    await shop.begin()
    shop.say(Op.GO)
    for _ in range(20):
        unheard(shop)
        clock[0] += 5
    await fakes.turns()
    assert shop.desk.busy == 1
    unheard_of = fakes.message("c.w-1", headers={"Status": "503"})
    shop.bus.deliver(unheard_of)
    await shop.runner.abandon("end of test")


async def test_an_engine_without_progress_loses_its_jobs(shop: Shop) -> None:
    await shop.begin()
    shop.say(Op.GO)
    shop.runner.tick(time.monotonic() + STALL + 1)
    await shop.idle()
    assert shop.frames()[-1].body[::2] == ("engine_failed", True)
    assert shop.told() == [NAK]
    assert shop.desk.suspected[0].away


async def test_a_silent_engine_that_still_turns_keeps_its_jobs(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.begin()
    shop.say(Op.GO)
    now = time.monotonic()
    for later in (3, 6, 9):
        monkeypatch.setattr("workers.attempt.time.monotonic", lambda now=now, s=later: now + s)
        shop.runner.tick(now + later)
        shop.runner.tick(now + later)
        await fakes.turns()
    assert shop.engine.probes == 3
    shop.runner.tick(now + 9 + STALL - 1)
    assert shop.told().count(NAK) == 0
    await shop.runner.abandon("end of test")


@pytest.mark.parametrize("fault", [None, EngineFault("no answer")])
async def test_a_silent_engine_that_hangs_loses_them(shop: Shop, fault: EngineFault | None) -> None:
    await shop.begin()
    shop.say(Op.GO)
    shop.engine.alive, shop.engine.fault = False, fault
    now = time.monotonic()
    for later in (3.0, 6.0, STALL + 1):
        shop.runner.tick(now + later)
        await fakes.turns()
    await shop.idle()
    assert shop.engine.probes == 2
    assert shop.told()[-1] == NAK


async def test_abandoned_jobs_go_back(shop: Shop) -> None:
    await shop.begin()
    shop.say(Op.GO)
    await shop.runner.abandon("stopped")
    assert shop.told() == [NAK]
    assert shop.frames()[-1].body == ("engine_failed", "stopped", True)
    assert shop.runner.running == {}


async def test_an_answer_of_one_who_may_have_lost_its_lease_is_not_acked(
    shop: Shop, clock: list[float]
) -> None:
    await shop.begin()
    shop.say(Op.GO)
    clock[0] += CONFIG.jobs.ack_wait
    shop.engine.gate.set()
    await shop.idle()
    assert shop.kinds()[-1] == Kind.END
    assert shop.told() == []


async def test_a_lease_that_lapsed_is_not_spoken_for(shop: Shop, clock: list[float]) -> None:
    """A process that was frozen may find its job in other hands: any verdict would harm them."""
    await shop.begin()
    shop.say(Op.GO)
    clock[0] += CONFIG.jobs.ack_wait
    shop.engine.gate.set()
    await shop.idle()
    assert shop.told() == []
