"""The life of a job at its holder: claim, frames, the last frame, and then the verdict."""

from __future__ import annotations

import asyncio
import time
import weakref

import pytest
from structlog.testing import capture_logs

from schemas import frames
from schemas.bus import BusError, Message
from schemas.frames import Frame, Kind, Op
from schemas.jetstream.words import NAK, TERM
from schemas.jobs import Job
from tests.unit import fakes, version_1
from tests.unit.workers.runner_setup import RunnerSetup
from workers import runner as runners
from workers.engines.base import EngineFault


async def test_claim_frames_end_then_the_ack(setup: RunnerSetup) -> None:
    setup.deliver()
    assert setup.slot.busy == 1
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()
    assert setup.kinds() == [Kind.CLAIM, Kind.START, Kind.DATA, Kind.END]
    assert setup.claim().body == ("worker", fakes.HOLDER, "node", "e", fakes.ack(), 0, True)
    assert setup.frames()[-1].body == (1, 2, 0, 3, 0, 0, 0)
    assert setup.engine.body == fakes.job().body
    (ack,) = setup.told()
    assert ack.startswith(b"+NXT")
    assert setup.bus.posts[-1].subject == fakes.ack()


async def test_a_first_attempt_begins_before_it_may_but_is_not_acked(setup: RunnerSetup) -> None:
    setup.deliver()
    await setup.bus.until(lambda _: Kind.END in setup.kinds())
    await fakes.turns()
    assert (setup.told(), setup.slot.busy) == ([], 1)
    setup.say(Op.GO)
    setup.say(Op.GO)
    await setup.idle()
    assert len(setup.told()) == 1


async def test_a_later_attempt_waits_until_it_may(setup: RunnerSetup) -> None:
    setup.deliver(delivered=2)
    await setup.claimed()
    await fakes.turns()
    assert not setup.engine.began.is_set()
    setup.say(Op.GO)
    await setup.idle()
    assert len(setup.told(2)) == 1


async def test_one_that_was_published_again_waits_until_it_may(setup: RunnerSetup) -> None:
    """It is delivered for the first time, but another may hold it."""
    setup.deliver(fakes.job(edition=1))
    await setup.claimed()
    await fakes.turns()
    assert not setup.engine.began.is_set()
    setup.say(Op.GO)
    await setup.idle()
    assert len(setup.told()) == 1


async def test_a_large_body_is_fetched_once_the_job_is_held(setup: RunnerSetup) -> None:
    async def hand_over(subject: str, payload: bytes) -> Message:
        return fakes.message("_W.1", b"12345")

    setup.bus.answer = hand_over
    setup.deliver(fakes.job(body=b"", body_size=5))
    await setup.claimed()
    await fakes.turns()
    assert not setup.engine.began.is_set()
    setup.say(Op.GO)
    await setup.idle()
    assert setup.engine.body == b"12345"


async def test_a_body_that_does_not_come_is_retried_elsewhere(setup: RunnerSetup) -> None:
    setup.deliver(fakes.job(body=b"", body_size=5))
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()
    assert setup.frames()[-1].kind == Kind.FAIL
    assert setup.told() == [NAK]


async def test_cancelled_it_fails_then_terms(setup: RunnerSetup) -> None:
    await setup.begin()
    setup.say(Op.GO)
    setup.say(Op.CANCEL)
    await setup.idle()
    assert setup.engine.cancelled == 1
    assert setup.kinds() == [Kind.CLAIM, Kind.FAIL]
    assert setup.frames()[-1].body[0] == "client_gone"
    assert setup.told() == [TERM]
    assert setup.bus.posts[-2].subject == fakes.ack()  # the next pull comes last


async def test_dropped_it_says_nothing_to_the_broker(setup: RunnerSetup) -> None:
    await setup.begin()
    setup.say(Op.DROP)
    await setup.idle()
    assert setup.engine.cancelled == 1
    assert setup.told() == []


async def test_gone_it_terms(setup: RunnerSetup) -> None:
    setup.deliver(delivered=4)
    await setup.claimed()
    setup.say(Op.GONE)
    await setup.idle()
    assert not setup.engine.began.is_set()
    assert setup.told(4) == [TERM]


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (EngineFault("broke"), NAK),
        (EngineFault("away", away=True), NAK),
        (EngineFault("no", code="invalid_request", retryable=False), TERM),
    ],
)
async def test_a_fault_is_told_and_judged(
    setup: RunnerSetup, fault: EngineFault, verdict: bytes
) -> None:
    setup.engine.fault = fault
    setup.deliver()
    await setup.idle()
    last = setup.frames()[-1]
    assert (last.kind, last.body) == (Kind.FAIL, (fault.code, fault.message, fault.retryable))
    assert setup.told() == [verdict]
    assert setup.slot.suspected == [fault]


async def test_a_fault_of_ours_ends_the_job_alone(setup: RunnerSetup) -> None:
    setup.engine.fault = ZeroDivisionError("detail")
    setup.deliver()
    await setup.idle()
    assert setup.frames()[-1].body[::2] == ("internal_error", False)
    assert "detail" not in setup.frames()[-1].body[1]
    assert setup.told() == [TERM]
    setup.engine.fault = None
    setup.deliver()
    assert setup.slot.busy == 1


@pytest.mark.parametrize(("word", "begins"), [(Op.GONE, False), (Op.GO, True)])
async def test_past_its_deadline_by_the_clock_here_its_ingress_is_asked(
    setup: RunnerSetup, word: Op, begins: bool
) -> None:
    setup.deliver(fakes.job(total_by=5))
    await setup.claimed()
    await fakes.turns()
    assert not setup.engine.began.is_set()
    setup.say(word)
    await setup.idle()
    assert setup.engine.began.is_set() == begins
    (verdict,) = setup.told()
    assert verdict.startswith(b"+NXT" if begins else TERM)


async def test_stopped_before_it_began_it_is_handed_back_too(setup: RunnerSetup) -> None:
    """A task that is cancelled before its first step does nothing at all."""
    setup.deliver()
    async with asyncio.timeout(fakes.PATIENCE):
        await setup.runner.abandon("the worker was stopped")
    assert (setup.told(), setup.slot.busy) == ([NAK], 0)
    assert not setup.engine.began.is_set()


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x90"])
async def test_what_is_no_job_is_removed(setup: RunnerSetup, data: bytes) -> None:
    setup.deliver(data)
    assert (setup.told(), setup.slot.busy) == ([TERM], 0)
    assert setup.runner.idle.is_set()


async def test_a_job_without_its_body_comes_again_later(setup: RunnerSetup) -> None:
    """As of a consumer that was changed to give out heads alone."""
    head = {"Nats-Msg-Size": "300"}
    setup.runner.take(setup.slot, setup.puller.pulls, fakes.message("_W", b"", fakes.ack(), head))
    assert (setup.told(), setup.slot.busy) == ([b'-NAK {"delay": 5000000000}'], 0)


async def test_a_job_of_another_version_is_left_to_others_for_a_while(setup: RunnerSetup) -> None:
    """It is neither lost nor offered here again at once."""
    with capture_logs() as lines:
        for count in (1, 2):
            setup.deliver(version_1.JOB, delivered=count)
    assert [setup.told(count) for count in (1, 2)] == [[b'-NAK {"delay": 5000000000}']] * 2
    assert (setup.slot.busy, setup.runner.idle.is_set()) == (0, True)
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["event"], line["version"]) == ("runner.refused", 1)
    assert "a job of protocol version 1, and this process speaks 4" in line["error"]
    setup.deliver(delivered=3)
    assert setup.slot.busy == 1, "it goes on"
    await setup.runner.abandon("end of test")


async def test_control_of_another_version_is_refused(setup: RunnerSetup) -> None:
    await setup.begin()
    with capture_logs() as lines:
        setup.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", version_1.GO))
    assert [line["event"] for line in lines] == ["runner.refused"]
    assert setup.engine.cancelled == 0
    await setup.runner.abandon("end of test")


async def test_a_delivery_without_an_ack_subject_is_removed(setup: RunnerSetup) -> None:
    message = fakes.message("_W.p", fakes.job().pack(), "somewhere")
    setup.runner.take(setup.slot, setup.puller.pulls, message)
    assert setup.bus.to("somewhere") == [TERM]


async def test_redelivered_to_its_own_holder_its_ingress_decides(setup: RunnerSetup) -> None:
    """The running attempt speaks before the new one claims, so that it is not held for silent."""
    await setup.begin()
    setup.say(Op.GO)
    setup.deliver(delivered=2)
    await setup.bus.until(lambda _: setup.kinds().count(Kind.CLAIM) == 2)
    first, second, third = setup.frames()
    assert (second.kind, second.nonce) == (Kind.ALIVE, first.nonce)
    assert third.attempt == 2
    setup.say(Op.DROP, nonce=third.nonce)
    await setup.bus.until(lambda _: setup.slot.busy == 1)
    assert setup.engine.cancelled == 0
    setup.engine.may_end.set()
    await setup.idle()
    assert (len(setup.told()), setup.told(2)) == (1, [])


@pytest.mark.parametrize("dropped_first", [True, False])
async def test_a_job_that_comes_anew_before_it_is_let_go_is_claimed_at_once(
    setup: RunnerSetup, dropped_first: bool
) -> None:
    """Its message would otherwise lie until the broker's patience is over."""
    setup.deliver(delivered=2)
    await setup.claimed()
    if dropped_first:
        setup.say(Op.GONE)
    setup.deliver(fakes.job(edition=1), delivered=3)
    setup.say(Op.GONE)
    await setup.bus.until(lambda _: setup.kinds().count(Kind.CLAIM) == 2)
    again = [frame for frame in setup.frames() if frame.kind == Kind.CLAIM][1]
    setup.say(Op.GO, nonce=again.nonce)
    await setup.idle()
    assert setup.engine.body == fakes.job().body
    assert setup.told(2) == [TERM]
    assert setup.told(3)[0].startswith(b"+NXT")


async def test_an_ack_that_cannot_be_sent_is_no_fault(setup: RunnerSetup) -> None:
    await setup.begin()
    setup.say(Op.GO)
    setup.bus.fault = BusError("away")
    setup.engine.may_end.set()
    await setup.idle()
    assert setup.told() == []


async def test_words_for_another_delivery_are_passed_over(setup: RunnerSetup) -> None:
    await setup.begin()
    for op in (Op.GO, Op.DROP, Op.CANCEL):
        setup.say(op, nonce=5)
    setup.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", b"rubbish"))
    setup.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", frames.pack_control(Op.DROP, "other", 5)))
    setup.say(77)  # type: ignore[arg-type]
    await fakes.turns()
    assert (setup.slot.busy, setup.engine.cancelled) == (1, 0)
    await setup.runner.abandon("end of test")


async def test_what_was_lost_is_sent_again_also_after_the_end(setup: RunnerSetup) -> None:
    setup.deliver()
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()
    nonce = setup.claim().nonce
    setup.bus.posts.clear()
    setup.say(Op.RESEND, 1, nonce)
    assert [(f.kind, f.seq) for f in setup.frames()] == [(Kind.DATA, 1), (Kind.END, 2)]
    setup.runner.tick(time.monotonic() + 60)
    setup.bus.posts.clear()
    setup.say(Op.RESEND, 1, nonce)
    assert setup.frames() == []


async def test_of_an_attempt_that_ended_nothing_is_kept_but_its_ring(setup: RunnerSetup) -> None:
    """A busy worker has thousands of them, and each had the body of its job."""
    setup.deliver()
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()
    setup.runner.tick(time.monotonic())
    attempt, nonce = weakref.ref(setup.slot.attempts.pop()), setup.claim().nonce
    await fakes.turns(2)  # its task is gone, too
    assert attempt() is None
    setup.bus.posts.clear()
    setup.say(Op.RESEND, 2, nonce)
    assert setup.kinds() == [Kind.END]


async def test_while_the_broker_is_away_what_was_sent_is_kept(setup: RunnerSetup) -> None:
    """The last frames may have been lost with the connection."""
    setup.deliver()
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()
    nonce, back = setup.claim().nonce, time.monotonic() + 60
    setup.bus.up = False
    setup.runner.tick(back)
    setup.bus.up = True
    for later, sent in ((4, 3), (6, 0)):
        setup.runner.tick(back + later)
        setup.bus.posts.clear()
        setup.say(Op.RESEND, 0, nonce)
        assert len(setup.frames()) == sent


async def test_rings_are_forgotten_when_they_are_too_many_bytes(
    setup: RunnerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_KEEP_BYTES", 1)
    setup.deliver()
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()
    nonce = setup.claim().nonce
    setup.runner.tick(time.monotonic())
    setup.bus.posts.clear()
    setup.say(Op.RESEND, 0, nonce)
    assert setup.frames() == []


OTHER = fakes.job(id="f" * 32, ingress="in-2", body=b"another's")
WAITED = fakes.ack().removesuffix(".0") + ".3"
"""Three jobs waited behind this one."""


def queued(setup: RunnerSetup) -> None:
    """A job is delivered that others waited behind."""
    inbox = setup.bus.subscriptions[-1].subject
    setup.bus.deliver(fakes.message(inbox, fakes.job().pack(), WAITED))


def give(setup: RunnerSetup, job: Job) -> None:
    control = frames.pack_control(Op.GIVE, job.id, setup.claim().nonce, 0, job.pack())
    setup.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", control))


def said_of(setup: RunnerSetup, job: Job) -> list[Frame]:
    sent = setup.bus.to(f"r.{job.ingress}.box.{job.id}")
    return [frame for message in sent for frame in frames.unpack(message)]


@pytest.mark.parametrize(("slots", "begins"), [(4, True), (3, False)])
async def test_those_for_which_there_are_slots_do_not_wait(
    setup: RunnerSetup, slots: int, begins: bool
) -> None:
    """Three are on their way, and three slots are free beside that of the first."""
    setup.slot.room.size = slots
    queued(setup)
    await setup.claimed()
    await fakes.turns()
    assert setup.engine.began.is_set() == begins
    assert setup.claim().body[-1] is begins
    setup.say(Op.GO)
    await setup.idle()


async def test_where_others_wait_the_engine_waits_for_the_answer(setup: RunnerSetup) -> None:
    queued(setup)
    await setup.claimed()
    await fakes.turns()
    assert not setup.engine.began.is_set()
    assert setup.claim().body[-1] is False
    setup.say(Op.GO)
    await setup.idle()
    assert setup.engine.body == fakes.job().body


async def test_another_job_may_be_given_for_the_delivered_one(setup: RunnerSetup) -> None:
    queued(setup)
    await setup.claimed()
    give(setup, OTHER)
    give(setup, OTHER)
    await setup.idle()
    assert setup.engine.body == OTHER.body
    assert [frame.kind for frame in said_of(setup, OTHER)] == [Kind.START, Kind.DATA, Kind.END]
    assert setup.kinds() == [Kind.CLAIM], "nothing is said of the delivered one"
    assert setup.bus.to(WAITED)[0].startswith(b"+NXT"), "its message is acked"


async def test_of_two_jobs_that_are_given_the_second_is_refused(setup: RunnerSetup) -> None:
    """Its ingress waited too long for another's answer; it has to publish the job again."""
    setup.engine.may_end.clear()
    queued(setup)
    await setup.claimed()
    give(setup, OTHER)
    setup.say(Op.GO)  # by the ingress of the delivered one
    third = fakes.job(id="e" * 32, ingress="in-3")
    give(setup, third)
    await setup.engine.began.wait()
    for job in (fakes.job(), third):
        (refused,) = [frame for frame in said_of(setup, job) if frame.kind == Kind.FAIL]
        assert (refused.nonce, refused.body[0]) == (setup.claim().nonce, "client_gone")
    assert setup.engine.body == OTHER.body
    setup.engine.may_end.set()
    await setup.idle()


async def test_an_engine_that_has_begun_is_given_nothing_else(setup: RunnerSetup) -> None:
    await setup.begin()
    give(setup, OTHER)
    assert [frame.kind for frame in said_of(setup, OTHER)] == [Kind.FAIL]
    setup.say(Op.GO)
    setup.engine.may_end.set()
    await setup.idle()
    assert setup.engine.body == fakes.job().body
    assert setup.kinds() == [Kind.CLAIM, Kind.START, Kind.DATA, Kind.END]


async def test_what_is_given_and_is_no_job_is_not_taken(setup: RunnerSetup) -> None:
    queued(setup)
    await setup.claimed()
    control = frames.pack_control(Op.GIVE, "x", setup.claim().nonce, 0, b"rubbish")
    setup.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", control))
    await fakes.turns()
    assert not setup.engine.began.is_set()
    setup.say(Op.GONE)
    await setup.idle()


async def test_who_leaves_a_job_to_others_rests_its_slot(
    setup: RunnerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it asks at once, and the broker gives it the job again, if its rank is the first."""
    rested = asyncio.Event()

    def release() -> None:
        setup.slot.room.release()
        rested.set()

    monkeypatch.setattr(setup.slot, "release", release)
    setup.deliver(delivered=2)
    await setup.claimed()
    setup.say(Op.LEAVE)
    await setup.bus.until(lambda _: setup.told(2) == [b"-NAK"])
    assert (setup.slot.busy, rested.is_set()) == (1, False)
    async with asyncio.timeout(fakes.PATIENCE):
        await rested.wait()
    assert setup.slot.busy == 0
