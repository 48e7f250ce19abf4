"""Fallbacks and hedges: who may hold a job that may leave the house."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from ingress.jobs.resume import CHAT, Splice
from ingress.jobs.ticket import SUSPECT
from schemas import errors, subjects
from schemas.frames import Frame, Kind, Op
from tests.unit import fakes
from tests.unit.ingress.jobs.recorder import Case, Cloud, Holder, Said

A = Holder("a", 1)
B = Holder("b", 2)
FB = Cloud("fb", 1)
COPY = Cloud("fb", 1, copy=True)


def said(holder: Holder, op: Op) -> Said:
    return Said(holder.name, op, holder.nonce, None)


def case(**changed: Any) -> Case:
    made = Case()
    made.ticket.may_leave = True
    for name, value in changed.items():
        setattr(made.ticket, name, value)
    return made


def moved(here: Case) -> Case:
    """It is for providers alone now, as `Dispatch.move` does it."""
    here.ticket.withdraw(here.now)
    here.ticket.job = dataclasses.replace(here.ticket.job, lane=subjects.CLOUD)
    here.ticket.renew()
    return here


def hedged() -> Case:
    """A worker has it, and a provider, too."""
    made = case(hedged=True).held_by(A)
    made.hear(COPY.claim())
    assert made.said() == [said(COPY, Op.GO)]
    assert made.ticket.rival is not None
    return made


def test_a_job_that_is_not_overdue_stays() -> None:
    here = case()
    here.hear(FB.claim())
    assert here.said() == [said(FB, Op.LEAVE)]
    assert here.ticket.holder is None


def test_a_job_that_is_wanted_goes() -> None:
    here = case(wanted=1.0)
    here.hear(FB.claim(), FB.start(), FB.data(1, b"x"), FB.end(2))
    assert here.said() == [said(FB, Op.GO)]
    assert (here.ticket.take(), here.ticket.node, here.ticket.tries) == (b"x", "", 0)


def test_a_worker_that_takes_it_ends_the_wanting() -> None:
    here = case(wanted=1.0).held_by(A)
    here.ticket.revoke("disconnected", here.now)
    here.said()
    late = Cloud("fb", 2)
    here.hear(late.claim())
    assert here.said() == [said(late, Op.LEAVE)]


def test_the_copy_for_providers_needs_no_wanting() -> None:
    here = moved(case())
    here.hear(COPY.claim())
    assert here.said() == [said(COPY, Op.GO)]
    assert here.ticket.in_cloud


def test_a_copy_that_was_never_published_is_nobodys() -> None:
    """It would be a way out of the house for a job that may not leave it."""
    here = case(may_leave=False)
    here.hear(COPY.claim())
    assert here.said() == [said(COPY, Op.GONE)]
    assert here.ticket.holder is None


def test_what_a_worker_holds_is_not_the_fallbacks() -> None:
    here = case(wanted=1.0).held_by(A)
    late = Cloud("fb", 2)
    here.hear(late.claim())
    assert here.said() == [said(late, Op.DROP)]


def test_a_decline_is_no_try_and_leaves_the_job() -> None:
    here = case(wanted=1.0)
    here.hear(FB.claim(), FB.fail(0, "insufficient_credits"))
    ticket = here.ticket
    assert (ticket.done, ticket.holder, ticket.tries) == (False, None, 0)
    assert isinstance(ticket.declined, errors.InsufficientCredits)
    here.said()
    here.hear(B.claim(), B.start(), B.end(1))
    assert ticket.ended is not None


def test_a_final_refusal_of_the_fallback_is_the_answer() -> None:
    here = moved(case())
    here.hear(COPY.claim(), COPY.fail(0, "insufficient_credits", retryable=False))
    assert isinstance(here.ticket.error, errors.InsufficientCredits)
    assert here.ticket.error.source == "fallback"


def test_a_fallback_lost_after_tokens_breaks_the_stream() -> None:
    here = moved(case())
    here.hear(COPY.claim(), COPY.start(), COPY.data(1, b"x"))
    here.ticket.take()
    here.ticket.revoke("disconnected", here.now)
    assert isinstance(here.ticket.error, errors.StreamBroken)
    assert "the fallback" in here.ticket.error.message


def test_withdrawn_the_worker_is_out() -> None:
    here = case().held_by(A)
    here.hear(A.start())
    here.ticket.withdraw(here.now)
    assert here.said() == [(A.ack, b"+TERM"), said(A, Op.DROP)]
    moved(here).hear(A.data(1, b"late"), COPY.claim())
    here.hear(COPY.start(), COPY.data(1, b"x"), COPY.end(2))
    assert here.ticket.take() == b"x"


def test_withdrawn_its_queue_is_no_way_out_any_more() -> None:
    """The copy is, and two fallbacks must not have it."""
    here = case(wanted=1.0)
    here.ticket.withdraw(here.now)
    here.hear(FB.claim())
    assert here.said() == [said(FB, Op.LEAVE)]


@pytest.mark.parametrize("first", [COPY.data(1, b"p"), COPY.end(1)])
def test_the_rivals_first_byte_wins(first: Frame) -> None:
    here = hedged()
    here.hear(A.start(), COPY.start(), first)
    assert here.said() == [(A.ack, b"+TERM"), said(A, Op.DROP)]
    assert here.ticket.in_cloud
    here.hear(A.data(1, b"w"), A.end(2))
    assert here.ticket.take() in (b"p", b"")


@pytest.mark.parametrize("first", [A.data(1, b"w"), A.frame(Kind.ALIVE, 1, True)])
def test_the_workers_first_byte_wins(first: Frame) -> None:
    """Of an answer that is not streamed it says so, without sending one."""
    here = hedged()
    here.hear(COPY.start(), A.start(), first)
    assert here.said() == [said(COPY, Op.GONE)]
    assert here.ticket.rival is None
    here.hear(COPY.data(1, b"p"), COPY.end(2))
    assert not here.ticket.done
    here.hear(COPY.alive(2))
    assert here.said() == [said(COPY, Op.DROP)], "it did not hear that it lost"


def test_a_mere_sign_of_life_wins_nothing() -> None:
    here = hedged()
    here.hear(COPY.alive(0), A.alive(0))
    assert here.said() == []
    assert here.ticket.rival is not None


def test_a_worker_that_is_lost_leaves_the_job_to_the_rival() -> None:
    here = hedged()
    here.hear(COPY.start())
    here.ticket.revoke("disconnected", here.now)
    assert here.said() == [(A.ack, b"+TERM"), said(A, Op.DROP)]
    here.hear(COPY.data(1, b"p"), COPY.end(2))
    assert (here.ticket.take(), here.ticket.done) == (b"p", True)


def test_a_rival_that_fails_after_the_worker_was_lost_leaves_the_job_to_others() -> None:
    """It may be for providers alone to the fallback, but the queue still has free workers."""
    here = hedged()
    here.ticket.revoke("disconnected", here.now)
    here.hear(COPY.fail(0, "insufficient_credits", retryable=False))
    assert (here.ticket.done, here.ticket.holder, here.effects.anew) == (False, None, 1)
    assert isinstance(here.ticket.declined, errors.InsufficientCredits)
    here.ticket.renew()
    here.said()
    here.hear(A.claim())
    assert here.said() == [said(A, Op.DROP)], "it was lost"
    here.hear(B.claim(), B.start(), B.data(1, b"w"), B.end(2))
    assert here.ticket.take() == b"w"


@pytest.mark.parametrize("why", ["tried enough", "moved", "begun"])
def test_a_rival_that_fails_where_nobody_else_may_try_ends_the_job(why: str) -> None:
    here = hedged()
    here.ticket.tries = 3 if why == "tried enough" else 1
    here.ticket.revoke("disconnected", here.now)
    if why == "moved":
        here.ticket.job = dataclasses.replace(here.ticket.job, lane=subjects.CLOUD)
    if why == "begun":
        here.hear(COPY.start(), COPY.data(1, b"p"))
        here.hear(COPY.fail(2, "stream_broken", retryable=False))
    else:
        here.hear(COPY.fail(0, "provider_failed", retryable=False))
    assert here.ticket.error is not None
    assert here.effects.anew == 0


def test_a_rival_that_fails_is_forgotten() -> None:
    here = hedged()
    here.hear(COPY.fail(0, "provider_failed", retryable=False))
    assert (here.ticket.rival, here.ticket.done) == (None, False)
    here.hear(A.start(), A.data(1, b"w"), A.end(2))
    assert here.ticket.take() == b"w"


@pytest.mark.parametrize("left", [False, True])
def test_a_rival_that_believed_that_nobody_waits_has_refused_nothing(left: bool) -> None:
    here = hedged()
    if left:
        here.ticket.revoke("disconnected", here.now)
    here.hear(COPY.fail(0, "client_gone", retryable=False))
    assert (here.ticket.declined, here.ticket.done) == (None, False)
    assert here.effects.anew == left


def test_a_second_rival_has_to_wait_until_the_first_is_silent() -> None:
    here, other = hedged(), Cloud("fb2", 2, copy=True)
    here.hear(other.claim())
    assert here.said() == [said(other, Op.DROP)]
    here.hear(A.alive(0), after=SUSPECT)
    third = Cloud("fb3", 3, copy=True)
    here.hear(third.claim())
    assert here.said() == [said(COPY, Op.DROP), said(third, Op.GO)]


def test_a_copy_that_comes_after_the_first_byte_is_gone() -> None:
    here = case(hedged=True).held_by(A)
    here.hear(A.start(), A.data(1, b"w"), COPY.claim())
    assert here.said() == [said(COPY, Op.GONE)]


def test_a_client_that_leaves_stops_both() -> None:
    here = hedged()
    here.ticket.fail(errors.ClientGone("left"))
    assert here.said() == [said(A, Op.CANCEL), said(COPY, Op.GONE)]


def test_after_their_tries_workers_get_nothing_more() -> None:
    here = case()
    for number in (1, 2, 3):
        worker = Holder("w", number)
        here.hear(worker.claim(), worker.fail(0))
    assert (here.ticket.done, here.effects.buried) == (False, [])
    assert here.ticket.exhausted is not None
    here.said()
    late = Holder("w", 4)
    here.hear(late.claim())
    assert here.said() == [said(late, Op.GONE)]
    here.ticket.give_up()
    assert isinstance(here.ticket.error, errors.EngineFailed)
    assert here.effects.buried == ["w failed"]


def test_one_more_does_not_take_over_from_the_last_that_may_try() -> None:
    here = case()
    for number in (1, 2, 3):
        here.hear(Holder("w", number).claim(), after=SUSPECT)
    here.said()
    late = Holder("late", 4)
    here.hear(late.claim(), after=SUSPECT)
    assert here.said() == [
        said(Holder("w", 3), Op.DROP),
        Said("late", Op.GONE, late.nonce, "the worker on node-w fell silent"),
    ]
    assert (here.ticket.tries, here.ticket.holder, here.ticket.done) == (3, None, False)
    assert here.ticket.exhausted is not None


def test_notes_are_of_the_attempt_that_answers() -> None:
    here = case(wanted=1.0)
    note = (("x-headrace-served-by", "provider:x"),)
    here.hear(FB.claim(), FB.frame(Kind.NOTE, 0, note))
    assert here.ticket.notes == dict(note)
    here.hear(FB.fail(1, "provider_failed"))
    assert here.ticket.notes == {}


# Streams that a provider continues


def part(text: str) -> bytes:
    return b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


def torn(by: Holder = A) -> Case:
    """A worker died after a part of its stream, of which the client has read the first half."""
    here = case(splice=Splice(CHAT)).held_by(by)
    here.hear(by.start(), by.data(1, part("a")))
    assert here.ticket.take() == part("a")
    here.hear(by.data(2, part("b")))
    here.ticket.revoke("disconnected", here.now)
    here.said()
    return here


def test_a_stream_that_broke_waits_for_a_provider() -> None:
    here = torn()
    ticket = here.ticket
    assert (ticket.done, ticket.torn, ticket.holder) == (False, True, None)
    assert ticket.splice is not None
    assert (ticket.splice.text, ticket.splice.tokens) == ("ab", 2)
    assert ticket.take() == part("b")
    here.hear(B.claim())
    assert here.said() == [said(B, Op.GONE)]


@pytest.mark.parametrize("by", [B, COPY])
def test_who_comes_for_a_stream_that_fell_silent_would_begin_anew(by: Holder) -> None:
    """Before anybody noticed: it is to be continued, by one who knows what the client has."""
    here = case(splice=Splice(CHAT), hedged=True).held_by(A)
    here.hear(A.start(), A.data(1, part("a")))
    assert here.ticket.take() == part("a")
    here.hear(by.claim(), after=SUSPECT)
    assert [each for each in here.said() if isinstance(each, Said)][1:] == [
        Said(by.name, Op.GONE, by.nonce, "")
    ]
    assert (here.ticket.torn, here.ticket.holder) == (True, None)


@pytest.mark.parametrize("after", [lambda here: here, moved])
def test_the_copy_of_a_hedge_does_not_continue_it(after: Callable[[Case], Case]) -> None:
    """Nobody had taken it, and it knows nothing of what the client has."""
    here = after(torn())
    here.ticket.hedged, here.ticket.offered = True, 6
    old = Cloud("fb", 1, copy=True)
    old.ack = fakes.ack(1, 6).replace("echo-i", "echo-f")
    here.hear(old.claim())
    assert here.said() == [said(old, Op.GONE)]
    assert here.ticket.holder is None


def test_a_provider_continues_it() -> None:
    here = moved(torn())
    here.hear(COPY.claim(), COPY.start(), COPY.data(1, part("c").replace(b'"c",', b'"d",', 1)))
    here.hear(COPY.end(2))
    assert here.said() == [said(COPY, Op.GO)]
    assert here.ticket.take() == part("b") + part("c")
    assert here.ticket.ended is not None


@pytest.mark.parametrize("again", ["revoked", "failed", "refused"])
def test_it_is_continued_once(again: str) -> None:
    here = moved(torn())
    here.hear(COPY.claim(), COPY.start(), COPY.data(1, part("c")))
    if again == "revoked":
        here.ticket.revoke("silent", here.now)
    else:
        here.hear(COPY.fail(2, retryable=again == "failed"))
    assert isinstance(here.ticket.error, errors.StreamBroken)
    assert here.effects.buried == []


def test_it_says_why_nobody_continued_it() -> None:
    here = moved(torn())
    here.hear(COPY.claim(), COPY.fail(0, "insufficient_credits", retryable=False))
    error = here.ticket.error
    assert isinstance(error, errors.StreamBroken)
    assert "node-a was lost (disconnected); the answer above is not complete" in error.message
    assert "no provider could continue it: fb failed" in error.message


def test_without_a_provider_it_ends_as_it_broke() -> None:
    here = torn()
    here.ticket.give_up()
    assert isinstance(here.ticket.error, errors.StreamBroken)
    assert here.effects.buried == []


def test_what_was_lost_unseen_is_no_part_of_it() -> None:
    here = case(splice=Splice(CHAT)).held_by(A)
    here.hear(A.start(), A.data(1, part("lost")))
    here.ticket.revoke("disconnected", here.now)
    assert not here.ticket.torn
    here.said()
    here.held_by(B)
    here.hear(B.start(), B.data(1, part("a")))
    here.ticket.take()
    here.ticket.revoke("disconnected", here.now)
    assert here.ticket.splice is not None
    assert here.ticket.splice.text == "a"


def test_a_provider_that_breaks_is_not_continued_by_another() -> None:
    here = case(splice=Splice(CHAT), wanted=1.0)
    here.hear(FB.claim(), FB.start(), FB.data(1, part("a")))
    here.ticket.take()
    here.ticket.revoke("silent", here.now)
    assert isinstance(here.ticket.error, errors.StreamBroken)
