"""What a runner does twice a second: leases, claims without an answer, engines that hang."""

from __future__ import annotations

import time

import pytest

from schemas.frames import End, Kind, Op
from schemas.jetstream.words import IN_PROGRESS, NAK, TERM
from tests.unit import fakes
from tests.unit.workers.runner_setup import CONFIG, STALL, RunnerSetup
from workers import runner as runners
from workers.engines.base import EngineFault


async def test_while_it_runs_the_lease_is_prolonged(setup: RunnerSetup) -> None:
    await setup.begin()
    setup.say(Op.GO)
    setup.runner.tick(time.monotonic())
    assert setup.told() == [IN_PROGRESS]
    assert (setup.bus.posts[-1].reply, setup.kinds()[-1]) == (f"c.{fakes.HOLDER}", Kind.ALIVE)
    await setup.runner.abandon("end of test")


async def test_an_unanswered_claim_is_repeated_then_given_up(setup: RunnerSetup) -> None:
    await setup.begin()
    began = time.monotonic()
    setup.runner.tick(began + 0.3)
    assert setup.kinds().count(Kind.CLAIM) == 1
    setup.runner.tick(began + 0.8)
    setup.runner.tick(began + 1.3)
    assert setup.kinds().count(Kind.CLAIM) == 3
    setup.runner.tick(began + runners.CLAIM_PATIENCE + 0.3)
    await setup.idle()
    assert setup.engine.cancelled == 1
    assert setup.told()[-1] == TERM


async def test_while_the_broker_is_away_no_claim_is_given_up(setup: RunnerSetup) -> None:
    await setup.begin()
    began = time.monotonic()
    setup.bus.up = False
    setup.runner.tick(began + 10)
    setup.bus.up = True
    setup.runner.tick(began + 10 + runners.CLAIM_PATIENCE - 0.1)
    await fakes.turns()
    assert setup.slot.busy == 1
    assert TERM not in setup.told()
    await setup.runner.abandon("end of test")


def unheard(setup: RunnerSetup) -> None:
    headers = {"Status": "503", "Nats-Subject": f"r.in-1.box.{fakes.job().id}"}
    setup.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", headers=headers))


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


async def test_an_ingress_that_is_gone_has_its_jobs_removed(
    setup: RunnerSetup, clock: list[float]
) -> None:
    await setup.begin()
    setup.say(Op.GO)
    unheard(setup)
    await fakes.turns()
    assert setup.slot.busy == 1
    clock[0] += 0.5
    unheard(setup)
    await setup.idle()
    assert setup.told()[-1] == TERM


async def test_an_ingress_that_was_away_now_and_then_is_not_gone(
    setup: RunnerSetup, clock: list[float]
) -> None:
    await setup.begin()
    setup.say(Op.GO)
    for _ in range(20):
        unheard(setup)
        clock[0] += 5
    await fakes.turns()
    assert setup.slot.busy == 1
    unheard_of = fakes.message(f"c.{fakes.HOLDER}", headers={"Status": "503"})
    setup.bus.deliver(unheard_of)
    await setup.runner.abandon("end of test")


async def test_an_engine_without_progress_loses_its_jobs(setup: RunnerSetup) -> None:
    await setup.begin()
    setup.say(Op.GO)
    setup.runner.tick(time.monotonic() + STALL + 1)
    await setup.idle()
    assert setup.frames()[-1].body[::2] == ("engine_failed", True)
    assert setup.told() == [NAK]
    assert setup.slot.suspected[0].away


async def test_a_silent_engine_that_still_turns_keeps_its_jobs(
    setup: RunnerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setup.begin()
    setup.say(Op.GO)
    now = time.monotonic()
    for later in (3, 6, 9):
        monkeypatch.setattr("workers.attempt.time.monotonic", lambda now=now, s=later: now + s)
        setup.runner.tick(now + later)
        setup.runner.tick(now + later)
        await fakes.turns()
    assert setup.engine.probes == 3
    setup.runner.tick(now + 9 + STALL - 1)
    assert setup.told().count(NAK) == 0
    await setup.runner.abandon("end of test")


@pytest.mark.parametrize("fault", [None, EngineFault("no answer")])
async def test_a_silent_engine_that_hangs_loses_them(
    setup: RunnerSetup, fault: EngineFault | None
) -> None:
    await setup.begin()
    setup.say(Op.GO)
    setup.engine.alive, setup.engine.fault = False, fault
    now = time.monotonic()
    for later in (3.0, 6.0, STALL + 1):
        setup.runner.tick(now + later)
        setup.say(Op.GO)
        await fakes.turns()
    await setup.idle()
    assert setup.engine.probes == 2
    assert setup.told()[-1] == NAK


async def test_abandoned_jobs_go_back(setup: RunnerSetup) -> None:
    await setup.begin()
    setup.say(Op.GO)
    await setup.runner.abandon("stopped")
    assert setup.told() == [NAK]
    assert setup.frames()[-1].body == ("engine_failed", "stopped", True)
    assert setup.runner.running == {}


async def test_an_answer_of_one_who_may_have_lost_its_lease_is_not_acked(
    setup: RunnerSetup, clock: list[float]
) -> None:
    await setup.begin()
    setup.say(Op.GO)
    clock[0] += CONFIG.jobs.ack_wait
    setup.engine.may_end.set()
    await setup.idle()
    assert setup.kinds()[-1] == Kind.END
    assert setup.told() == []


async def test_a_lease_that_lapsed_is_asked_for_again(
    setup: RunnerSetup, clock: list[float]
) -> None:
    """To prolong it would take the job from its next holder, and to ack it then, too."""
    await setup.begin()
    setup.say(Op.GO)
    clock[0] += CONFIG.jobs.ack_wait
    setup.runner.tick(clock[0])
    assert setup.told() == []
    assert setup.kinds() == [Kind.CLAIM, Kind.CLAIM, Kind.ALIVE]
    clock[0] += 1
    setup.say(Op.GO)
    setup.runner.tick(clock[0])
    assert setup.told() == [IN_PROGRESS]
    setup.engine.may_end.set()
    await setup.idle()
    assert setup.told()[-1].startswith(b"+NXT")


@pytest.mark.parametrize(
    "fault", [None, EngineFault("broke"), EngineFault("no", code="x", retryable=False)]
)
async def test_one_that_asked_for_its_lease_again_in_vain_says_nothing(
    setup: RunnerSetup, clock: list[float], fault: EngineFault | None
) -> None:
    """Its ack, its nak and its term would all harm the next holder."""
    await setup.begin()
    setup.engine.fault = fault
    setup.say(Op.GO)
    clock[0] += CONFIG.jobs.ack_wait
    setup.runner.tick(clock[0])
    setup.engine.may_end.set()
    await setup.idle()
    assert setup.told() == []


async def test_a_lease_that_lapsed_is_not_spoken_for(
    setup: RunnerSetup, clock: list[float]
) -> None:
    """A process that was frozen may find its job in other hands: any verdict would harm them."""
    await setup.begin()
    setup.say(Op.GO)
    clock[0] += CONFIG.jobs.ack_wait
    setup.engine.may_end.set()
    await setup.idle()
    assert setup.told() == []


async def test_whole_answers_are_told_a_moment_later(setup: RunnerSetup) -> None:
    setup.deliver()
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()
    assert setup.slot.attempts == []
    setup.runner.tick(time.monotonic())
    setup.runner.tick(time.monotonic())
    assert [each.ended for each in setup.slot.attempts] == [End(1, 2, 0, 3)]
