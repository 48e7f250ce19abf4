"""Who holds a ticket's job, by example. What holds of all of it: test_ticket_machine.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ingress
from ingress.jobs.custody import MOST_LEFT, SUSPECT
from schemas import errors
from schemas.frames import Op, Start
from tests.unit.ingress.jobs.recorder import Holder, Said, TicketSetup

A, B, C = Holder("a", 1), Holder("b", 2), Holder("c", 3)
GO_A = Said("a", Op.GO, A.nonce)
GO_B = Said("b", Op.GO, B.nonce)


def test_a_claim_is_granted() -> None:
    setup = TicketSetup()
    setup.hear(A.claim(), after=0.25)
    ticket = setup.ticket
    assert setup.said() == [GO_A]
    assert ticket.holder is not None
    assert (ticket.holder.claim.holder, ticket.holder.claim.ack) == ("a", A.ack)
    assert (ticket.node, ticket.tries) == ("node-a", 1)
    assert ticket.times.claimed - ticket.times.queued == 0.25


def test_a_job_of_one_node_is_granted_to_no_other() -> None:
    setup = TicketSetup(lane="n-node-b")
    setup.hear(A.claim())
    assert setup.said() == [Said("a", Op.DROP, A.nonce)]
    setup.hear(B.claim())
    assert setup.said() == [GO_B]


def test_a_worker_that_failed_a_job_leaves_it_to_others() -> None:
    setup = TicketSetup().held_by(A)
    setup.effects.workers = {"a", "b"}
    setup.hear(A.fail(0))
    again = Holder("a", 2)
    setup.hear(again.claim())
    assert setup.said()[-1] == Said("a", Op.LEAVE, again.nonce)
    third = Holder("b", 3)
    setup.hear(third.claim())
    assert setup.said()[-1] == Said("b", Op.GO, third.nonce)
    setup.hear(third.fail(0))
    last = Holder("a", 4)
    setup.hear(last.claim())
    assert setup.said()[-1] == Said("a", Op.GO, last.nonce), "all have tried"


def test_others_who_are_too_busy_are_not_waited_for() -> None:
    setup = TicketSetup().held_by(A)
    setup.effects.workers = {"a", "b"}
    setup.hear(A.fail(0))
    setup.said()
    for attempt in range(2, MOST_LEFT + 3):
        setup.hear(Holder("a", attempt).claim())
    assert setup.effects.ops("a") == [Op.LEAVE] * MOST_LEFT + [Op.GO]


def test_a_whole_answer() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(1, b"x"), A.data(2, b"y"), A.end(3))
    ticket = setup.ticket
    assert ticket.received.head == Start(200, "text/event-stream")
    assert ticket.done
    assert ticket.received.ended is not None
    assert (ticket.received.ended.completion_tokens, ticket.received.buffered) == (4, 2)
    assert (ticket.received.take(), ticket.received.take(), ticket.received.buffered) == (
        b"xy",
        b"",
        0,
    )
    assert setup.said() == []


def test_a_claim_that_is_repeated_is_granted_again_and_is_one_try() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.claim(), after=0.5)
    assert setup.said() == [GO_A]
    assert setup.ticket.tries == 1


def test_a_claim_repeated_after_the_end_is_granted_so_that_the_job_is_acked() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.end(1))
    setup.hear(A.claim())
    assert setup.said() == [GO_A]


def test_a_second_claimant_is_turned_away_while_the_first_is_alive() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.alive(0), after=SUSPECT * 0.9)
    setup.hear(B.claim(), after=SUSPECT * 0.9)
    assert setup.said() == [Said("b", Op.DROP, B.nonce)]
    setup.hear(A.data(0, b"x"))
    assert setup.ticket.received.take() == b"x"


def test_a_silent_holder_is_replaced_by_the_next_claimant() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(1, b"lost"))
    setup.hear(B.claim(), after=SUSPECT)
    assert setup.said() == [Said("a", Op.DROP, A.nonce), GO_B]
    setup.hear(A.data(2, b"stale"), B.start(), B.data(1, b"good"))
    assert setup.ticket.received.take() == b"good"
    assert setup.ticket.tries == 2


def test_an_older_delivery_never_takes_over() -> None:
    setup = TicketSetup().held_by(B)
    setup.hear(A.claim(), after=60)
    assert setup.said() == [Said("a", Op.DROP, A.nonce)]


@pytest.mark.parametrize("lost", ["revoked", "failed"])
def test_a_made_up_count_of_deliveries_locks_nobody_out(lost: str) -> None:
    setup = TicketSetup()
    liar = Holder("liar", 2**60)
    setup.held_by(liar)
    if lost == "revoked":
        setup.ticket.revoke("disconnected", setup.now)
    else:
        setup.hear(liar.fail(0))
    setup.said()
    setup.held_by(B)


def test_two_deliveries_of_one_number_are_not_both_granted() -> None:
    setup, twin = TicketSetup().held_by(A), Holder("twin", 1, nonce=77)
    setup.hear(twin.claim(), after=60)
    assert setup.said() == [Said("twin", Op.DROP, 77)]


def test_revoked_the_job_goes_to_the_next() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(1, b"lost"))
    setup.ticket.revoke("disconnected", setup.now)
    assert setup.said() == [(A.ack, b"-NAK"), Said("a", Op.DROP, A.nonce)]
    assert setup.ticket.holder is None
    assert not setup.ticket.done
    assert setup.ticket.times.freed == setup.now
    setup.hear(A.data(2, b"stale"), A.end(3))
    setup.hear(B.claim(), B.start(), B.data(1, b"good"), B.end(2))
    assert setup.said() == [GO_B]
    assert setup.ticket.received.take() == b"good"


def test_revoked_after_a_release_the_stream_is_broken() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(1, b"seen"))
    assert setup.ticket.received.take() == b"seen"
    setup.ticket.revoke("silent", setup.now)
    assert setup.said()[0] == (A.ack, b"+TERM")
    assert isinstance(setup.ticket.received.error, errors.StreamInterrupted)
    assert "node-a" in setup.ticket.received.error.message


def test_nothing_is_revoked_without_a_holder() -> None:
    setup = TicketSetup()
    setup.ticket.revoke("silent", setup.now)
    setup.held_by(A).hear(A.end(0))
    setup.ticket.revoke("silent", setup.now)
    assert setup.said() == []


def test_one_whose_drop_was_lost_is_told_again() -> None:
    setup = TicketSetup().held_by(A)
    setup.ticket.revoke("disconnected", setup.now)
    setup.said()
    setup.hear(A.alive(7))
    assert setup.said() == [Said("a", Op.DROP, A.nonce)]
    setup.hear(A.data(7, b"x"), Holder("stranger", 9).alive(0))
    assert setup.said() == []


def test_a_retryable_failure_before_the_release_is_not_seen() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(1, b"half"), A.fail(2))
    ticket = setup.ticket
    assert (ticket.done, ticket.received.head, ticket.received.buffered, ticket.holder) == (
        False,
        None,
        0,
        None,
    )
    assert ticket.times.first == 0
    setup.hear(B.claim(), B.start(status=201), B.data(1, b"whole"), B.end(2))
    assert ticket.received.head is not None
    assert (ticket.received.head.status, ticket.received.take()) == (201, b"whole")


def test_a_retryable_failure_after_the_release_breaks_the_stream() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(1, b"half"))
    setup.ticket.received.take()
    setup.hear(A.data(2, b"more"), A.fail(3))
    assert isinstance(setup.ticket.received.error, errors.StreamInterrupted)
    assert setup.ticket.received.error.source == "worker"
    assert setup.ticket.received.take() == b"more"


@pytest.mark.parametrize("code", ["invalid_request", "stream_interrupted", "of_the_future"])
def test_a_failure_that_is_not_retryable_is_the_answer(code: str) -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.fail(0, code, retryable=False))
    error = setup.ticket.received.error
    assert error is not None
    assert type(error) is errors.CODES.get(code, errors.EngineFailed)
    assert (error.message, error.source) == ("a failed", "worker")


def test_one_who_believed_that_nobody_waits_leaves_the_job_to_others() -> None:
    """This process stood still: the client is there, and the job's message is gone."""
    setup = TicketSetup().held_by(A)
    setup.hear(A.fail(0, "client_gone", retryable=False))
    assert [job.edition for job in setup.effects.published] == [1]
    assert (setup.ticket.done, setup.ticket.holder) == (False, None)
    again = Holder("b", 1, nonce=7, edition=1)
    setup.held_by(again)
    setup.hear(again.start(), again.data(1, b"x"), again.end(2))
    assert (setup.ticket.received.take(), setup.ticket.tries) == (b"x", 2)


def test_the_last_who_may_try_leaves_it_to_nobody() -> None:
    setup = TicketSetup(max_attempts=1).held_by(A)
    setup.hear(A.fail(0, "client_gone", retryable=False))
    assert (setup.effects.published, setup.effects.dead_letters) == ([], ["a failed"])


def test_after_the_last_attempt_the_reason_is_told() -> None:
    setup = TicketSetup(max_attempts=2)
    setup.held_by(A).hear(A.fail(0))
    setup.held_by(B).hear(B.start(), B.fail(1))
    error = setup.ticket.received.error
    assert type(error) is errors.EngineFailed
    assert error.message == "2 attempts failed, the last one: b failed"
    assert setup.effects.dead_letters == ["b failed"]
    setup.hear(C.claim())
    assert setup.said() == [Said("c", Op.GONE, C.nonce)]


def test_an_attempt_that_fell_silent_may_be_the_last() -> None:
    setup = TicketSetup(max_attempts=1).held_by(A)
    setup.hear(B.claim(), after=SUSPECT)
    assert setup.said() == [
        Said("a", Op.DROP, A.nonce),
        Said("b", Op.GONE, B.nonce),
    ]
    assert isinstance(setup.ticket.received.error, errors.EngineFailed)


def test_a_claim_after_the_end_is_gone() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.end(1))
    setup.hear(B.claim(), after=60)
    assert setup.said() == [Said("b", Op.GONE, B.nonce)]


def test_a_job_that_was_answered_after_all_is_no_dead_letter() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.fail(0))
    setup.held_by(B).hear(B.end(0))
    assert setup.effects.dead_letters == []
    setup.hear(C.claim())
    assert setup.said() == [Said("c", Op.GONE, C.nonce)]


def test_a_job_whose_client_left_after_a_failure_is_no_dead_letter() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.fail(0))
    setup.ticket.fail(errors.ClientGone("the client left"))
    setup.hear(B.claim())
    assert setup.said() == [Said("b", Op.GONE, B.nonce)]


def test_failed_from_here_the_holder_is_cancelled() -> None:
    setup = TicketSetup().held_by(A)
    setup.ticket.fail(errors.ClientGone("left"))
    setup.ticket.fail(errors.Internal("again"))
    assert setup.said() == [Said("a", Op.CANCEL, A.nonce)]
    assert isinstance(setup.ticket.received.error, errors.ClientGone)


def test_one_whose_cancel_was_lost_is_not_told_to_go_on() -> None:
    setup = TicketSetup().held_by(A)
    setup.ticket.fail(errors.ClientGone("left"))
    setup.said()
    setup.hear(A.claim())
    assert setup.said() == [Said("a", Op.GONE, A.nonce)]


def test_failed_in_the_queue_nobody_is_told() -> None:
    setup = TicketSetup()
    setup.ticket.fail(errors.ClientGone("left"))
    assert setup.said() == []
    assert setup.ticket.done


def test_nothing_outside_the_machine_writes_its_state() -> None:
    """Its parts may write each other's; who watches it, or answers from it, calls it."""
    parts = {"ticket", "custody", "postings", "received", "times", "holder", "hedge", "newest"}
    machine = {"ticket.py", "custody.py", "state.py"}
    written = []
    for path in Path(ingress.__file__).parent.rglob("*.py"):
        if path.name in machine:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                owner = ast.unparse(node.value)
                if parts & set(owner.replace("_", "").split(".")) - {"self"}:
                    written.append(f"{path.name}: {owner}.{node.attr}")
    assert written == []
