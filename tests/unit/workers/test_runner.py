"""The life of a job at its holder: claim, frames, the last frame, and then the verdict."""

from __future__ import annotations

import time

import pytest

from schemas import frames
from schemas.bus import BusError, Message
from schemas.frames import Kind, Op
from schemas.jobs import AGAIN
from tests.unit import fakes
from tests.unit.workers.runner_setup import Shop
from workers import runner as runners
from workers.consumer import NAK, TERM
from workers.engines.base import EngineFault


async def test_claim_frames_end_then_the_ack(shop: Shop) -> None:
    shop.deliver()
    assert shop.desk.busy == 1
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    assert shop.kinds() == [Kind.CLAIM, Kind.START, Kind.DATA, Kind.END]
    assert shop.claim().body == ("w-1", "node", "e", fakes.ack())
    assert shop.frames()[-1].body == (1, 2, 0, 3)
    assert shop.engine.body == fakes.job().body
    (ack,) = shop.told()
    assert ack.startswith(b"+NXT")
    assert shop.bus.posts[-1].subject == fakes.ack()


async def test_a_first_attempt_begins_before_it_may_but_is_not_acked(shop: Shop) -> None:
    shop.deliver()
    await shop.bus.until(lambda _: Kind.END in shop.kinds())
    await fakes.turns()
    assert (shop.told(), shop.desk.busy) == ([], 1)
    shop.say(Op.GO)
    shop.say(Op.GO)
    await shop.idle()
    assert len(shop.told()) == 1


async def test_a_later_attempt_waits_until_it_may(shop: Shop) -> None:
    shop.deliver(delivered=2)
    await shop.claimed()
    await fakes.turns()
    assert not shop.engine.began.is_set()
    shop.say(Op.GO)
    await shop.idle()
    assert len(shop.told(2)) == 1


async def test_one_that_was_published_again_waits_until_it_may(shop: Shop) -> None:
    """It is delivered for the first time, but another may hold it."""
    shop.deliver(fakes.job(tags=(AGAIN,)))
    await shop.claimed()
    await fakes.turns()
    assert not shop.engine.began.is_set()
    shop.say(Op.GO)
    await shop.idle()
    assert len(shop.told()) == 1


async def test_a_large_body_is_fetched_once_the_job_is_held(shop: Shop) -> None:
    async def hand_over(subject: str, payload: bytes) -> Message:
        return fakes.message("_W.1", b"12345")

    shop.bus.answer = hand_over
    shop.deliver(fakes.job(body=b"", body_size=5))
    await shop.claimed()
    await fakes.turns()
    assert not shop.engine.began.is_set()
    shop.say(Op.GO)
    await shop.idle()
    assert shop.engine.body == b"12345"


async def test_a_body_that_does_not_come_is_retried_elsewhere(shop: Shop) -> None:
    shop.deliver(fakes.job(body=b"", body_size=5))
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    assert shop.frames()[-1].kind == Kind.FAIL
    assert shop.told() == [NAK]


async def test_cancelled_it_fails_then_terms(shop: Shop) -> None:
    await shop.begin()
    shop.say(Op.GO)
    shop.say(Op.CANCEL)
    await shop.idle()
    assert shop.engine.cancelled == 1
    assert shop.kinds() == [Kind.CLAIM, Kind.FAIL]
    assert shop.frames()[-1].body[0] == "client_gone"
    assert shop.told() == [TERM]
    assert shop.bus.posts[-2].subject == fakes.ack()  # the next pull comes last


async def test_dropped_it_says_nothing_to_the_broker(shop: Shop) -> None:
    await shop.begin()
    shop.say(Op.DROP)
    await shop.idle()
    assert shop.engine.cancelled == 1
    assert shop.told() == []


@pytest.mark.parametrize("argument", [None, "", "the last error"])
async def test_gone_it_terms(shop: Shop, argument: object) -> None:
    shop.deliver(delivered=4)
    await shop.claimed()
    shop.say(Op.GONE, argument)
    await shop.idle()
    assert not shop.engine.began.is_set()
    assert shop.told(4) == [TERM]


async def test_asked_to_resume_it_declines(shop: Shop) -> None:
    await shop.begin()
    shop.say(Op.RESUME, "so far")
    await shop.idle()
    assert shop.frames()[-1].body[::2] == ("stream_broken", False)
    assert shop.told() == [TERM]


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (EngineFault("broke"), NAK),
        (EngineFault("away", away=True), NAK),
        (EngineFault("no", code="invalid_request", retryable=False), TERM),
    ],
)
async def test_a_fault_is_told_and_judged(shop: Shop, fault: EngineFault, verdict: bytes) -> None:
    shop.engine.fault = fault
    shop.deliver()
    await shop.idle()
    last = shop.frames()[-1]
    assert (last.kind, last.body) == (Kind.FAIL, (fault.code, fault.message, fault.retryable))
    assert shop.told() == [verdict]
    assert shop.desk.suspected == [fault]


async def test_a_fault_of_ours_ends_the_job_alone(shop: Shop) -> None:
    shop.engine.fault = ZeroDivisionError("detail")
    shop.deliver()
    await shop.idle()
    assert shop.frames()[-1].body[::2] == ("internal_error", False)
    assert "detail" not in shop.frames()[-1].body[1]
    assert shop.told() == [TERM]
    shop.engine.fault = None
    shop.deliver()
    assert shop.desk.busy == 1


@pytest.mark.parametrize(("word", "begins"), [(Op.GONE, False), (Op.GO, True)])
async def test_past_its_deadline_by_the_clock_here_its_ingress_is_asked(
    shop: Shop, word: Op, begins: bool
) -> None:
    shop.deliver(fakes.job(total_by=5))
    await shop.claimed()
    await fakes.turns()
    assert not shop.engine.began.is_set()
    shop.say(word)
    await shop.idle()
    assert shop.engine.began.is_set() == begins
    (verdict,) = shop.told()
    assert verdict.startswith(b"+NXT" if begins else TERM)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x90"])
async def test_what_is_no_job_is_removed(shop: Shop, data: bytes) -> None:
    shop.deliver(data)
    assert (shop.told(), shop.desk.busy) == ([TERM], 0)
    assert shop.runner.idle.is_set()


async def test_a_delivery_without_an_ack_subject_is_removed(shop: Shop) -> None:
    message = fakes.message("_W.p", fakes.job().pack(), "somewhere")
    shop.runner.take(shop.desk, shop.puller, message)
    assert shop.bus.to("somewhere") == [TERM]


async def test_redelivered_to_its_own_holder_it_runs_once(shop: Shop) -> None:
    await shop.begin()
    shop.deliver(delivered=2)
    assert (shop.desk.busy, shop.told(2)) == (1, [])
    shop.say(Op.GO)
    shop.engine.gate.set()
    await shop.idle()
    assert shop.kinds().count(Kind.CLAIM) == 1


async def test_an_ack_that_cannot_be_sent_is_no_fault(shop: Shop) -> None:
    await shop.begin()
    shop.say(Op.GO)
    shop.bus.fault = BusError("away")
    shop.engine.gate.set()
    await shop.idle()
    assert shop.told() == []


async def test_words_for_another_delivery_are_passed_over(shop: Shop) -> None:
    await shop.begin()
    for op in (Op.GO, Op.DROP, Op.CANCEL):
        shop.say(op, nonce=5)
    shop.bus.deliver(fakes.message("c.w-1", b"rubbish"))
    shop.bus.deliver(fakes.message("c.w-1", frames.pack_control(Op.DROP, "other", 5)))
    shop.say(77)  # type: ignore[arg-type]
    await fakes.turns()
    assert (shop.desk.busy, shop.engine.cancelled) == (1, 0)
    await shop.runner.abandon("end of test")


async def test_what_was_lost_is_sent_again_also_after_the_end(shop: Shop) -> None:
    shop.deliver()
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    nonce = shop.claim().nonce
    shop.bus.posts.clear()
    shop.say(Op.RESEND, 1, nonce)
    assert [(f.kind, f.seq) for f in shop.frames()] == [(Kind.DATA, 1), (Kind.END, 2)]
    shop.runner.tick(time.monotonic() + 60)
    shop.bus.posts.clear()
    shop.say(Op.RESEND, 1, nonce)
    assert shop.frames() == []


async def test_rings_are_forgotten_when_they_are_too_many_bytes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_KEEP_BYTES", 1)
    shop.deliver()
    await shop.claimed()
    shop.say(Op.GO)
    await shop.idle()
    nonce = shop.claim().nonce
    shop.runner.tick(time.monotonic())
    shop.bus.posts.clear()
    shop.say(Op.RESEND, 0, nonce)
    assert shop.frames() == []
