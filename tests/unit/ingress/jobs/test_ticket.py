"""Who holds a ticket's job, by example. What holds of all of it: test_ticket_machine.py."""

from __future__ import annotations

import pytest

from ingress.jobs import ticket as tickets
from schemas import errors
from schemas.frames import Op, Start
from tests.unit.ingress.jobs.recorder import Case, Holder, Said

A, B, C = Holder("a", 1), Holder("b", 2), Holder("c", 3)
GO_A = Said("a", Op.GO, A.nonce, None)
GO_B = Said("b", Op.GO, B.nonce, None)


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


@pytest.mark.parametrize("lost", ["revoked", "failed"])
def test_a_made_up_count_of_deliveries_locks_nobody_out(lost: str) -> None:
    case = Case()
    liar = Holder("liar", 2**60)
    case.held_by(liar)
    if lost == "revoked":
        case.ticket.revoke("disconnected", case.now)
    else:
        case.hear(liar.fail(0))
    case.said()
    case.held_by(B)


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


def test_one_who_believed_that_nobody_waits_leaves_the_job_to_others() -> None:
    """This process stood still: the client is there, and the job's message is gone."""
    case = Case().held_by(A)
    case.hear(A.fail(0, "client_gone", retryable=False))
    assert (case.effects.anew, case.ticket.done, case.ticket.holder) == (1, False, None)
    case.ticket.renew()
    again = Holder("b", 1, nonce=7)
    case.held_by(again)
    case.hear(again.start(), again.data(1, b"x"), again.end(2))
    assert (case.ticket.take(), case.ticket.tries) == (b"x", 2)


def test_the_last_who_may_try_leaves_it_to_nobody() -> None:
    case = Case(max_attempts=1).held_by(A)
    case.hear(A.fail(0, "client_gone", retryable=False))
    assert (case.effects.anew, case.effects.buried) == (0, ["a failed"])


def test_after_the_last_attempt_the_reason_is_told() -> None:
    case = Case(max_attempts=2)
    case.held_by(A).hear(A.fail(0))
    case.held_by(B).hear(B.start(), B.fail(1))
    error = case.ticket.error
    assert type(error) is errors.EngineFailed
    assert error.message == "2 attempts failed, the last one: b failed"
    assert case.effects.buried == ["b failed"]
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
    assert case.effects.buried == []
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
