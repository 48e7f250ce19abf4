"""Fallbacks and hedges: who may hold a job that may leave the house."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ingress.jobs.custody import SUSPECT
from ingress.jobs.state import Resumers
from schemas import errors, subjects
from schemas.frames import Frame, Kind, Op
from tests.unit.ingress.jobs.recorder import FallbackHolder, Holder, Said, TicketSetup

A = Holder("a", 1)
B = Holder("b", 2)
FB = FallbackHolder("fb", 1)
COPY = FallbackHolder("fb", 1, nonce=2101, edition=1)
"""Of what was published for providers alone: the copy of a hedged job, or one that was moved."""


def said(holder: Holder, op: Op) -> Said:
    return Said(holder.name, op, holder.nonce)


def cloud_ticket(*, wanted: bool = False, **terms: Any) -> TicketSetup:
    made = TicketSetup(**{"may_leave": True, **terms})
    if wanted:
        made.ticket.offer(made.now)
    return made


def moved(setup: TicketSetup) -> TicketSetup:
    """It is for providers alone now."""
    setup.ticket.move(setup.now)
    assert setup.effects.published[-1].lane == subjects.CLOUD
    return setup


def hedged() -> TicketSetup:
    """A worker has it, and a provider, too."""
    made = cloud_ticket().held_by(A)
    made.ticket.postings.publish_copy()
    made.hear(COPY.claim())
    assert made.said() == [said(COPY, Op.GO)]
    assert made.ticket.custody.hedge is not None
    return made


def test_a_job_that_is_not_overdue_stays() -> None:
    setup = cloud_ticket()
    setup.hear(FB.claim())
    assert setup.said() == [said(FB, Op.LEAVE)]
    assert setup.ticket.holder is None


def test_a_job_that_is_wanted_goes() -> None:
    setup = cloud_ticket(wanted=True)
    setup.hear(FB.claim(), FB.start(), FB.data(1, b"x"), FB.end(2))
    assert setup.said() == [said(FB, Op.GO)]
    assert (setup.ticket.received.take(), setup.ticket.node, setup.ticket.tries) == (b"x", None, 0)


def test_a_worker_that_takes_it_ends_the_wanting() -> None:
    setup = cloud_ticket(wanted=True).held_by(A)
    setup.ticket.revoke("disconnected", setup.now)
    setup.said()
    late = FallbackHolder("fb", 2)
    setup.hear(late.claim())
    assert setup.said() == [said(late, Op.LEAVE)]


def test_the_copy_for_providers_needs_no_wanting() -> None:
    setup = moved(cloud_ticket())
    setup.hear(COPY.claim())
    assert setup.said() == [said(COPY, Op.GO)]
    assert setup.ticket.custody.at_provider


def test_a_copy_that_was_never_published_is_nobodys() -> None:
    """It would be a way out of the house for a job that may not leave it."""
    setup = cloud_ticket(may_leave=False)
    setup.hear(COPY.claim())
    assert setup.said() == [said(COPY, Op.GONE)]
    assert setup.ticket.holder is None


def test_what_a_worker_holds_is_not_the_fallbacks() -> None:
    setup = cloud_ticket(wanted=True).held_by(A)
    late = FallbackHolder("fb", 2)
    setup.hear(late.claim())
    assert setup.said() == [said(late, Op.DROP)]


def test_a_decline_is_no_try_and_leaves_the_job() -> None:
    setup = cloud_ticket(wanted=True)
    setup.hear(FB.claim(), FB.fail(0, "insufficient_credits"))
    ticket = setup.ticket
    assert (ticket.done, ticket.holder, ticket.tries) == (False, None, 0)
    assert isinstance(ticket.declined, errors.InsufficientCredits)
    setup.said()
    setup.hear(B.claim(), B.start(), B.end(1))
    assert ticket.received.ended is not None


def test_a_final_refusal_of_the_fallback_is_the_answer() -> None:
    setup = moved(cloud_ticket())
    setup.hear(COPY.claim(), COPY.fail(0, "insufficient_credits", retryable=False))
    assert isinstance(setup.ticket.received.error, errors.InsufficientCredits)
    assert setup.ticket.received.error.source == "fallback"


def test_a_fallback_lost_after_tokens_breaks_the_stream() -> None:
    setup = moved(cloud_ticket())
    setup.hear(COPY.claim(), COPY.start(), COPY.data(1, b"x"))
    setup.ticket.received.take()
    setup.ticket.revoke("disconnected", setup.now)
    assert isinstance(setup.ticket.received.error, errors.StreamInterrupted)
    assert "the fallback" in setup.ticket.received.error.message


def test_moved_the_worker_is_out() -> None:
    setup = cloud_ticket().held_by(A)
    setup.hear(A.start())
    moved(setup)
    assert setup.said() == [(A.ack, b"+TERM"), said(A, Op.DROP)]
    setup.hear(A.data(1, b"late"), COPY.claim())
    setup.hear(COPY.start(), COPY.data(1, b"x"), COPY.end(2))
    assert setup.ticket.received.take() == b"x"


def test_moved_its_queue_is_no_way_out_any_more() -> None:
    """What was published for providers is, and two fallbacks must not have it."""
    setup = moved(cloud_ticket(wanted=True))
    setup.hear(FB.claim())
    assert setup.said() == [said(FB, Op.GONE)]


def test_moved_its_message_and_that_of_a_hedge_are_deleted() -> None:
    setup = cloud_ticket().held_by(A)
    setup.ticket.postings.publish_copy()
    setup.ticket.postings.stored(0, 5)
    moved(setup)
    setup.ticket.postings.stored(1, 6)
    setup.ticket.postings.stored(2, 7)
    assert setup.effects.deleted == [5, 6]
    assert [job.edition for job in setup.effects.published] == [1, 2]


def test_what_the_broker_did_not_say_is_no_edition() -> None:
    setup = cloud_ticket()
    setup.ticket.postings.stored(9, 5)
    setup.ticket.refused(9, errors.Internal("x"))
    assert (setup.effects.deleted, setup.ticket.done) == ([], False)


@pytest.mark.parametrize("first", [COPY.data(1, b"p"), COPY.end(1)])
def test_the_hedges_first_byte_wins(first: Frame) -> None:
    setup = hedged()
    setup.hear(A.start(), COPY.start(), first)
    assert setup.said() == [(A.ack, b"+TERM"), said(A, Op.DROP)]
    assert setup.ticket.custody.at_provider
    setup.hear(A.data(1, b"w"), A.end(2))
    assert setup.ticket.received.take() in (b"p", b"")


@pytest.mark.parametrize("first", [A.data(1, b"w"), A.frame(Kind.ALIVE, 1, True)])
def test_the_workers_first_byte_wins(first: Frame) -> None:
    """Of an answer that is not streamed it says so, without sending one."""
    setup = hedged()
    setup.hear(COPY.start(), A.start(), first)
    assert setup.said() == [said(COPY, Op.GONE)]
    assert setup.ticket.custody.hedge is None
    setup.hear(COPY.data(1, b"p"), COPY.end(2))
    assert not setup.ticket.done
    setup.hear(COPY.alive(2))
    assert setup.said() == [said(COPY, Op.DROP)], "it did not hear that it lost"


def test_a_mere_sign_of_life_wins_nothing() -> None:
    setup = hedged()
    setup.hear(COPY.alive(0), A.alive(0))
    assert setup.said() == []
    assert setup.ticket.custody.hedge is not None


def test_a_worker_that_is_lost_leaves_the_job_to_the_hedge() -> None:
    setup = hedged()
    setup.hear(COPY.start())
    setup.ticket.revoke("disconnected", setup.now)
    assert setup.said() == [(A.ack, b"+TERM"), said(A, Op.DROP)]
    setup.hear(COPY.data(1, b"p"), COPY.end(2))
    assert (setup.ticket.received.take(), setup.ticket.done) == (b"p", True)


def test_a_hedge_that_fails_after_the_worker_was_lost_leaves_the_job_to_others() -> None:
    """It may be for providers alone to the fallback, but the queue still has free workers."""
    setup = hedged()
    setup.ticket.revoke("disconnected", setup.now)
    setup.hear(COPY.fail(0, "insufficient_credits", retryable=False))
    assert (setup.ticket.done, setup.ticket.holder) == (False, None)
    assert [job.lane for job in setup.effects.published] == [subjects.CLOUD, subjects.INTERACTIVE]
    assert isinstance(setup.ticket.declined, errors.InsufficientCredits)
    setup.said()
    setup.hear(A.claim())
    assert setup.said() == [said(A, Op.DROP)], "it was lost"
    again = Holder("c", 1, nonce=77, edition=2)
    setup.hear(again.claim(), again.start(), again.data(1, b"w"), again.end(2))
    assert setup.ticket.received.take() == b"w"


def test_a_hedge_that_fails_where_workers_tried_enough_ends_the_job() -> None:
    setup = cloud_ticket(max_attempts=1).held_by(A)
    setup.ticket.postings.publish_copy()
    setup.hear(COPY.claim())
    setup.ticket.revoke("disconnected", setup.now)
    setup.hear(COPY.fail(0, "provider_failed", retryable=False))
    assert setup.ticket.received.error is not None
    assert len(setup.effects.published) == 1


def test_a_hedge_that_fails_in_its_text_ends_the_job() -> None:
    setup = hedged()
    setup.ticket.revoke("disconnected", setup.now)
    setup.hear(COPY.start(), COPY.data(1, b"p"))
    setup.hear(COPY.fail(2, "stream_interrupted", retryable=False))
    assert setup.ticket.received.error is not None
    assert len(setup.effects.published) == 1


def test_moved_nobody_else_may_try() -> None:
    setup = moved(hedged())
    last = FallbackHolder("fb", 1, edition=2)
    setup.hear(last.claim(), last.fail(0, "provider_failed", retryable=False))
    assert setup.ticket.received.error is not None
    assert len(setup.effects.published) == 2


def test_a_hedge_that_fails_is_forgotten() -> None:
    setup = hedged()
    setup.hear(COPY.fail(0, "provider_failed", retryable=False))
    assert (setup.ticket.custody.hedge, setup.ticket.done) == (None, False)
    setup.hear(A.start(), A.data(1, b"w"), A.end(2))
    assert setup.ticket.received.take() == b"w"


@pytest.mark.parametrize("left", [False, True])
def test_a_hedge_that_believed_that_nobody_waits_has_refused_nothing(left: bool) -> None:
    setup = hedged()
    if left:
        setup.ticket.revoke("disconnected", setup.now)
    setup.hear(COPY.fail(0, "client_gone", retryable=False))
    assert (setup.ticket.declined, setup.ticket.done) == (None, False)
    assert len(setup.effects.published) == 1 + left


def test_a_second_hedge_has_to_wait_until_the_first_is_silent() -> None:
    setup, other = hedged(), FallbackHolder("fb2", 2, edition=1)
    setup.hear(other.claim())
    assert setup.said() == [said(other, Op.DROP)]
    setup.hear(A.alive(0), after=SUSPECT)
    third = FallbackHolder("fb3", 3, edition=1)
    setup.hear(third.claim())
    assert setup.said() == [said(COPY, Op.DROP), said(third, Op.GO)]


def test_a_copy_that_comes_after_the_first_byte_is_gone() -> None:
    setup = cloud_ticket().held_by(A)
    setup.ticket.postings.publish_copy()
    setup.hear(A.start(), A.data(1, b"w"), COPY.claim())
    assert setup.said() == [said(COPY, Op.GONE)]


def test_a_client_that_leaves_stops_both() -> None:
    setup = hedged()
    setup.ticket.fail(errors.ClientGone("left"))
    assert setup.said() == [said(A, Op.CANCEL), said(COPY, Op.GONE)]


def test_after_their_tries_workers_get_nothing_more() -> None:
    setup = cloud_ticket()
    for number in (1, 2, 3):
        worker = Holder("w", number)
        setup.hear(worker.claim(), worker.fail(0))
    assert (setup.ticket.done, setup.effects.dead_letters) == (False, [])
    assert setup.ticket.exhausted is not None
    setup.said()
    late = Holder("w", 4)
    setup.hear(late.claim())
    assert setup.said() == [said(late, Op.GONE)]
    setup.ticket.give_up()
    assert isinstance(setup.ticket.received.error, errors.EngineFailed)
    assert setup.effects.dead_letters == ["w failed"]


def test_one_more_does_not_take_over_from_the_last_that_may_try() -> None:
    setup = cloud_ticket()
    for number in (1, 2, 3):
        setup.hear(Holder("w", number).claim(), after=SUSPECT)
    setup.said()
    late = Holder("late", 4)
    setup.hear(late.claim(), after=SUSPECT)
    assert setup.said() == [
        said(Holder("w", 3), Op.DROP),
        Said("late", Op.GONE, late.nonce),
    ]
    assert (setup.ticket.tries, setup.ticket.holder, setup.ticket.done) == (3, None, False)
    assert setup.ticket.exhausted is not None


def test_notes_are_of_the_attempt_that_answers() -> None:
    setup = cloud_ticket(wanted=True)
    note = (("x-headrace-served-by", "provider:x"),)
    setup.hear(FB.claim(), FB.frame(Kind.NOTE, 0, note))
    assert setup.ticket.received.notes == dict(note)
    setup.hear(FB.fail(1, "provider_failed"))
    assert setup.ticket.received.notes == {}


# Streams that a provider continues


def part(text: str) -> bytes:
    return b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


def broken(by: Holder = A, *, hedged: bool = False) -> TicketSetup:
    """A worker died after a part of its stream, of which the client has read the first half."""
    setup = cloud_ticket(resumers=Resumers(providers=True)).held_by(by)
    if hedged:
        setup.ticket.postings.publish_copy()
    setup.hear(by.start(), by.data(1, part("a")))
    assert setup.ticket.received.take() == part("a")
    setup.hear(by.data(2, part("b")))
    setup.ticket.revoke("disconnected", setup.now)
    setup.said()
    return setup


def test_a_stream_that_broke_waits_for_a_provider() -> None:
    setup = broken()
    ticket = setup.ticket
    assert (ticket.done, ticket.received.resuming, ticket.holder) == (False, True, None)
    assert ticket.received.begun == (2, "ab", "")
    assert ticket.received.take() == part("b")
    setup.hear(B.claim())
    assert setup.said() == [said(B, Op.GONE)]


@pytest.mark.parametrize("by", [B, COPY])
def test_who_comes_for_a_stream_that_fell_silent_would_begin_anew(by: Holder) -> None:
    """Before anybody noticed: it is to be continued, by one who knows what the client has."""
    setup = cloud_ticket(resumers=Resumers(providers=True)).held_by(A)
    setup.ticket.postings.publish_copy()
    setup.hear(A.start(), A.data(1, part("a")))
    assert setup.ticket.received.take() == part("a")
    setup.hear(by.claim(), after=SUSPECT)
    assert [each for each in setup.said() if isinstance(each, Said)][1:] == [
        Said(by.name, Op.GONE, by.nonce)
    ]
    assert (setup.ticket.received.resuming, setup.ticket.holder) == (True, None)


@pytest.mark.parametrize("after", [lambda setup: setup, moved])
def test_the_copy_of_a_hedge_does_not_continue_it(
    after: Callable[[TicketSetup], TicketSetup],
) -> None:
    """Nobody had taken it, and it knows nothing of what the client has."""
    setup = after(broken(hedged=True))
    setup.said()
    setup.hear(COPY.claim())
    assert setup.said() == [said(COPY, Op.GONE)]
    assert setup.ticket.holder is None


def test_a_provider_continues_it() -> None:
    setup = moved(broken())
    setup.hear(COPY.claim(), COPY.start(), COPY.data(1, part("c").replace(b'"c",', b'"d",', 1)))
    setup.hear(COPY.end(2))
    assert setup.said() == [said(COPY, Op.GO)]
    assert setup.ticket.received.take() == part("b") + part("c")
    assert setup.ticket.received.ended is not None


@pytest.mark.parametrize("again", ["revoked", "failed", "refused"])
def test_it_is_continued_once(again: str) -> None:
    setup = moved(broken())
    setup.hear(COPY.claim(), COPY.start(), COPY.data(1, part("c")))
    if again == "revoked":
        setup.ticket.revoke("silent", setup.now)
    else:
        setup.hear(COPY.fail(2, retryable=again == "failed"))
    assert isinstance(setup.ticket.received.error, errors.StreamInterrupted)
    assert setup.effects.dead_letters == []


def test_it_says_why_nobody_continued_it() -> None:
    setup = moved(broken())
    setup.hear(COPY.claim(), COPY.fail(0, "insufficient_credits", retryable=False))
    error = setup.ticket.received.error
    assert isinstance(error, errors.StreamInterrupted)
    assert "node-a was lost (disconnected); the answer above is not complete" in error.message
    assert "no provider could continue it: fb failed" in error.message


def test_without_a_provider_it_ends_as_it_broke() -> None:
    setup = broken()
    setup.ticket.give_up()
    assert isinstance(setup.ticket.received.error, errors.StreamInterrupted)
    assert setup.effects.dead_letters == []


def test_what_was_lost_unseen_is_no_part_of_it() -> None:
    setup = cloud_ticket(resumers=Resumers(providers=True)).held_by(A)
    setup.hear(A.start(), A.data(1, part("lost")))
    setup.ticket.revoke("disconnected", setup.now)
    assert not setup.ticket.received.resuming
    setup.said()
    setup.held_by(B)
    setup.hear(B.start(), B.data(1, part("a")))
    setup.ticket.received.take()
    setup.ticket.revoke("disconnected", setup.now)
    assert setup.ticket.received.begun == (1, "a", "")


def test_a_provider_that_breaks_is_not_continued_by_another() -> None:
    setup = cloud_ticket(resumers=Resumers(providers=True), wanted=True)
    setup.hear(FB.claim(), FB.start(), FB.data(1, part("a")))
    setup.ticket.received.take()
    setup.ticket.revoke("silent", setup.now)
    assert isinstance(setup.ticket.received.error, errors.StreamInterrupted)
