"""Each transition of a ticket, by example. What holds of all of them: test_ticket_machine.py."""

from __future__ import annotations

import asyncio

import pytest

from ingress import ticket as tickets
from ingress.ticket import Ticket
from schemas import errors
from schemas.frames import Frame, Op, Start
from tests.unit.ingress.recorder import START, Holder, Recorder, Said
from tests.unit.ingress.recorder import ticket as make

A, B, C = Holder("a", 1), Holder("b", 2), Holder("c", 3)
GO_A = Said("a", Op.GO, A.nonce, None)
GO_B = Said("b", Op.GO, B.nonce, None)


class Case:
    """A ticket with its effects and its clock."""

    def __init__(self, max_attempts: int = 3) -> None:
        self.effects = Recorder()
        self.ticket = make(self.effects, max_attempts)
        self.now = START

    def hear(self, *frames: Frame, after: float = 0.0) -> None:
        self.now += after
        for frame in frames:
            self.ticket.frame(frame, self.now)

    def said(self) -> list[Said | tuple[str, bytes]]:
        return self.effects.drain()

    def held_by(self, holder: Holder) -> Case:
        self.hear(holder.claim())
        assert self.said() == [Said(holder.name, Op.GO, holder.nonce, None)]
        return self


def test_a_claim_is_granted() -> None:
    case = Case()
    case.hear(A.claim(), after=0.25)
    ticket = case.ticket
    assert case.said() == [GO_A]
    assert ticket.holder is not None
    assert (ticket.holder.holder, ticket.holder.ack) == ("a", A.ack)
    assert (ticket.node, ticket.attempt, ticket.tries) == ("node-a", 1, 1)
    assert ticket.times.claimed - ticket.times.queued == 0.25


def test_a_whole_answer() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(1, b"x"), A.data(2, b"y"), A.end(3))
    ticket = case.ticket
    assert ticket.head == Start(200, "text/event-stream")
    assert ticket.done
    assert ticket.ended is not None
    assert (ticket.ended.completion_tokens, ticket.buffered) == (4, 2)
    assert (ticket.take(), ticket.take(), ticket.buffered) == (b"xy", b"", 0)
    assert case.said() == []


def test_a_claim_that_is_repeated_is_granted_again_and_is_one_try() -> None:
    case = Case().held_by(A)
    case.hear(A.claim(), after=0.5)
    assert case.said() == [GO_A]
    assert case.ticket.tries == 1


def test_a_claim_repeated_after_the_end_is_granted_so_that_the_job_is_acked() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.end(1))
    case.hear(A.claim())
    assert case.said() == [GO_A]


def test_a_second_claimant_is_turned_away_while_the_first_is_alive() -> None:
    case = Case().held_by(A)
    case.hear(A.alive(0), after=tickets.SUSPECT * 0.9)
    case.hear(B.claim(), after=tickets.SUSPECT * 0.9)
    assert case.said() == [Said("b", Op.DROP, B.nonce, None)]
    case.hear(A.data(0, b"x"))
    assert case.ticket.take() == b"x"


def test_a_silent_holder_is_replaced_by_the_next_claimant() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(1, b"lost"))
    case.hear(B.claim(), after=tickets.SUSPECT)
    assert case.said() == [Said("a", Op.DROP, A.nonce, None), GO_B]
    case.hear(A.data(2, b"stale"), B.start(), B.data(1, b"good"))
    assert case.ticket.take() == b"good"
    assert case.ticket.tries == 2


def test_an_older_delivery_never_takes_over() -> None:
    case = Case().held_by(B)
    case.hear(A.claim(), after=60)
    assert case.said() == [Said("a", Op.DROP, A.nonce, None)]


def test_two_deliveries_of_one_number_are_not_both_granted() -> None:
    case, twin = Case().held_by(A), Holder("twin", 1, nonce=77)
    case.hear(twin.claim(), after=60)
    assert case.said() == [Said("twin", Op.DROP, 77, None)]


def test_revoked_the_job_goes_to_the_next() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(1, b"lost"))
    case.ticket.revoke("disconnected", case.now)
    assert case.said() == [(A.ack, b"-NAK"), Said("a", Op.DROP, A.nonce, None)]
    assert case.ticket.holder is None
    assert not case.ticket.done
    assert case.ticket.times.freed == case.now
    case.hear(A.data(2, b"stale"), A.end(3))
    case.hear(B.claim(), B.start(), B.data(1, b"good"), B.end(2))
    assert case.said() == [GO_B]
    assert case.ticket.take() == b"good"


def test_revoked_after_a_release_the_stream_is_broken() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(1, b"seen"))
    assert case.ticket.take() == b"seen"
    case.ticket.revoke("silent", case.now)
    assert case.said()[0] == (A.ack, b"+TERM")
    assert isinstance(case.ticket.error, errors.StreamBroken)
    assert "node-a" in case.ticket.error.message


def test_nothing_is_revoked_without_a_holder() -> None:
    case = Case()
    case.ticket.revoke("silent", case.now)
    case.held_by(A).hear(A.end(0))
    case.ticket.revoke("silent", case.now)
    assert case.said() == []


def test_one_whose_drop_was_lost_is_told_again() -> None:
    case = Case().held_by(A)
    case.ticket.revoke("disconnected", case.now)
    case.said()
    case.hear(A.alive(7))
    assert case.said() == [Said("a", Op.DROP, A.nonce, None)]
    case.hear(A.data(7, b"x"), Holder("stranger", 9).alive(0))
    assert case.said() == []


def test_a_retryable_failure_before_the_release_is_not_seen() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(1, b"half"), A.fail(2))
    ticket = case.ticket
    assert (ticket.done, ticket.head, ticket.buffered, ticket.holder) == (False, None, 0, None)
    assert ticket.times.first == 0
    case.hear(B.claim(), B.start(status=201), B.data(1, b"whole"), B.end(2))
    assert ticket.head is not None
    assert (ticket.head.status, ticket.take()) == (201, b"whole")


def test_a_retryable_failure_after_the_release_breaks_the_stream() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(1, b"half"))
    case.ticket.take()
    case.hear(A.data(2, b"more"), A.fail(3))
    assert isinstance(case.ticket.error, errors.StreamBroken)
    assert case.ticket.error.source == "worker"
    assert case.ticket.take() == b"more"


@pytest.mark.parametrize("code", ["invalid_request", "stream_broken", "of_the_future"])
def test_a_failure_that_is_not_retryable_is_the_answer(code: str) -> None:
    case = Case().held_by(A)
    case.hear(A.fail(0, code, retryable=False))
    error = case.ticket.error
    assert error is not None
    assert type(error) is errors.CODES.get(code, errors.EngineFailed)
    assert (error.message, error.source) == ("a failed", "worker")


def test_after_the_last_attempt_the_reason_is_told() -> None:
    case = Case(max_attempts=2)
    case.held_by(A).hear(A.fail(0))
    case.held_by(B).hear(B.start(), B.fail(1))
    error = case.ticket.error
    assert type(error) is errors.EngineFailed
    assert error.message == "2 attempts failed, the last one: b failed"
    case.hear(C.claim())
    assert case.said() == [Said("c", Op.GONE, C.nonce, "b failed")]


def test_an_attempt_that_fell_silent_may_be_the_last() -> None:
    case = Case(max_attempts=1).held_by(A)
    case.hear(B.claim(), after=tickets.SUSPECT)
    why = "the worker on node-a fell silent"
    assert case.said() == [
        Said("a", Op.DROP, A.nonce, None),
        Said("b", Op.GONE, B.nonce, why),
    ]
    assert isinstance(case.ticket.error, errors.EngineFailed)


def test_a_claim_after_the_end_is_gone() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.end(1))
    case.hear(B.claim(), after=60)
    assert case.said() == [Said("b", Op.GONE, B.nonce, None)]


def test_a_job_that_was_answered_after_all_is_no_dead_letter() -> None:
    case = Case().held_by(A)
    case.hear(A.fail(0))
    case.held_by(B).hear(B.end(0))
    case.hear(C.claim())
    assert case.said() == [Said("c", Op.GONE, C.nonce, None)]


def test_a_job_whose_client_left_after_a_failure_is_no_dead_letter() -> None:
    case = Case().held_by(A)
    case.hear(A.fail(0))
    case.ticket.fail(errors.ClientGone("the client left"))
    case.hear(B.claim())
    assert case.said() == [Said("b", Op.GONE, B.nonce, "")]


def test_failed_from_here_the_holder_is_cancelled() -> None:
    case = Case().held_by(A)
    case.ticket.fail(errors.ClientGone("left"))
    case.ticket.fail(errors.Internal("again"))
    assert case.said() == [Said("a", Op.CANCEL, A.nonce, None)]
    assert isinstance(case.ticket.error, errors.ClientGone)


def test_one_whose_cancel_was_lost_is_not_told_to_go_on() -> None:
    case = Case().held_by(A)
    case.ticket.fail(errors.ClientGone("left"))
    case.said()
    case.hear(A.claim())
    assert case.said() == [Said("a", Op.GONE, A.nonce, "")]


def test_failed_in_the_queue_nobody_is_told() -> None:
    case = Case()
    case.ticket.fail(errors.ClientGone("left"))
    assert case.said() == []
    assert case.ticket.done


def test_frames_of_one_who_does_not_hold_the_job_are_fenced() -> None:
    case = Case()
    case.hear(A.start(), A.data(1, b"early"))
    case.held_by(A)
    other = Holder("a", 1, nonce=5)
    case.hear(A.start(), other.data(1, b"other"), B.data(1, b"b"), A.data(1, b"mine"))
    assert case.ticket.take() == b"mine"


def test_frames_out_of_order_and_twice_are_put_in_order() -> None:
    case = Case().held_by(A)
    case.hear(A.data(2, b"2"), A.start(), A.data(3, b"3"), A.start(), A.data(2, b"2"))
    assert case.ticket.take() == b""
    case.hear(A.data(1, b"1"), A.data(1, b"1"), A.data(3, b"3"), A.end(4))
    assert case.ticket.take() == b"123"
    assert case.ticket.ended


def test_a_hole_is_asked_for_twice_a_second_at_most() -> None:
    case = Case().held_by(A)
    resend = Said("a", Op.RESEND, A.nonce, 1)
    case.hear(A.start(), A.data(2, b"2"))
    assert case.said() == [resend]
    case.hear(A.data(3, b"3"), after=tickets.ASK_AGAIN * 0.9)
    assert case.said() == []
    case.hear(A.data(4, b"4"), after=tickets.ASK_AGAIN * 0.2)
    assert case.said() == [resend]
    case.hear(A.data(1, b"1"))
    assert case.ticket.take() == b"1234"


def test_alive_tells_of_a_lost_last_frame() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.alive(1))
    assert case.said() == []
    case.hear(A.alive(3))
    assert case.said() == [Said("a", Op.RESEND, A.nonce, 1)]


def test_a_lost_end_is_asked_for_on_suspicion() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(1, b"x"))
    case.ticket.ask_resend(case.now)
    case.ticket.ask_resend(case.now)
    assert case.said() == [Said("a", Op.RESEND, A.nonce, 2)]
    case.hear(A.end(2))
    case.ticket.ask_resend(case.now + 60)
    assert case.ticket.ended
    assert case.said() == []


def test_the_next_holder_starts_with_nothing_parked() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(2, b"of a"))
    case.ticket.revoke("silent", case.now)
    case.hear(B.claim(), B.start(), B.data(1, b"1"))
    assert case.ticket.take() == b"1"


def test_nothing_behind_a_failure_counts() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), A.data(2, b"after the end"), A.fail(1))
    assert case.ticket.buffered == 0
    case.hear(B.claim(), B.start(), B.data(1, b"b"))
    assert case.ticket.take() == b"b"


def test_no_more_is_parked_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "PARKED", 2)
    case = Case().held_by(A)
    case.hear(*(A.data(seq, b"%d" % seq) for seq in (1, 2, 3)), A.start())
    assert case.ticket.take() == b"12"
    case.hear(A.alive(4), after=1)
    assert case.said()[-1] == Said("a", Op.RESEND, A.nonce, 3)


def test_published_anew_the_first_delivery_counts_again() -> None:
    case = Case().held_by(B)
    case.ticket.revoke("disconnected", case.now)
    case.said()
    case.ticket.renew()
    case.hear(B.claim())
    assert case.said() == [Said("b", Op.DROP, B.nonce, None)]
    case.held_by(A)
    assert case.ticket.edition == 1


def test_spared_the_silence_counts_from_now() -> None:
    case = Case().held_by(A)
    case.hear(A.data(2, b"x"))
    case.said()
    case.now += 60
    case.ticket.spare(case.now)
    case.hear(B.claim())
    assert case.said() == [Said("b", Op.DROP, B.nonce, None)]
    case.ticket.ask_resend(case.now)
    assert case.said() == [Said("a", Op.RESEND, A.nonce, 0)]


def test_a_kind_of_the_future_keeps_its_place() -> None:
    case = Case().held_by(A)
    case.hear(A.start(), Frame(77, A.attempt, A.nonce, 1, {"odd": 1}), A.data(2, b"x"))
    assert case.ticket.take() == b"x"


@pytest.fixture
async def held() -> Ticket:
    case = Case()
    case.hear(A.claim())
    return case.ticket


async def test_change_returns_on_each_thing_that_matters(held: Ticket) -> None:
    for frame in (A.start(), A.data(1, b"x"), A.end(2)):
        waiting = asyncio.ensure_future(held.change())
        await asyncio.sleep(0)
        assert not waiting.done()
        held.frame(frame, START)
        await waiting
    assert held.done


async def test_whole_waits_for_the_end(held: Ticket) -> None:
    waiting = asyncio.ensure_future(held.whole())
    for frame in (A.start(), A.data(1, b"x"), A.data(2, b"y")):
        await asyncio.sleep(0)
        held.frame(frame, START)
    await asyncio.sleep(0)
    assert not waiting.done()
    held.fail(errors.Internal("x"))
    await waiting
    await held.whole()
    assert held.done


async def test_a_wait_that_was_given_up_does_no_harm(held: Ticket) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await held.change()
    waiting = asyncio.ensure_future(held.change())
    await asyncio.sleep(0)
    held.nudge()
    await waiting
    assert not held.done
