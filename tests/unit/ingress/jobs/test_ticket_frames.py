"""What a ticket makes of the frames of its holder, and of their losses."""

from __future__ import annotations

import asyncio

import pytest

from ingress.answer.respond import News
from ingress.jobs import reorder
from ingress.jobs.custody import ASK_AGAIN
from ingress.jobs.ticket import Ticket
from schemas import errors
from schemas.frames import Frame, Op
from tests.unit.ingress.jobs.recorder import START, Holder, Said, TicketSetup

A, B = Holder("a", 1), Holder("b", 2)


def test_frames_of_one_who_does_not_hold_the_job_are_fenced() -> None:
    setup = TicketSetup()
    setup.hear(A.start(), A.data(1, b"early"))
    setup.held_by(A)
    other = Holder("a", 1, nonce=5)
    setup.hear(A.start(), other.data(1, b"other"), B.data(1, b"b"), A.data(1, b"mine"))
    assert setup.ticket.received.take() == b"mine"


def test_frames_out_of_order_and_twice_are_put_in_order() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.data(2, b"2"), A.start(), A.data(3, b"3"), A.start(), A.data(2, b"2"))
    assert setup.ticket.received.take() == b""
    setup.hear(A.data(1, b"1"), A.data(1, b"1"), A.data(3, b"3"), A.end(4))
    assert setup.ticket.received.take() == b"123"
    assert setup.ticket.received.ended


def test_a_hole_is_asked_for_twice_a_second_at_most() -> None:
    setup = TicketSetup().held_by(A)
    resend = Said("a", Op.RESEND, A.nonce, 1)
    setup.hear(A.start(), A.data(2, b"2"))
    assert setup.said() == [resend]
    setup.hear(A.data(3, b"3"), after=ASK_AGAIN * 0.9)
    assert setup.said() == []
    setup.hear(A.data(4, b"4"), after=ASK_AGAIN * 0.2)
    assert setup.said() == [resend]
    setup.hear(A.data(1, b"1"))
    assert setup.ticket.received.take() == b"1234"


def test_alive_tells_of_a_lost_last_frame() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.alive(1))
    assert setup.said() == []
    setup.hear(A.alive(3))
    assert setup.said() == [Said("a", Op.RESEND, A.nonce, 1)]


def test_a_lost_end_is_asked_for_on_suspicion() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(1, b"x"))
    setup.ticket.ask_resend(setup.now)
    setup.ticket.ask_resend(setup.now)
    assert setup.said() == [Said("a", Op.RESEND, A.nonce, 2)]
    setup.hear(A.end(2))
    setup.ticket.ask_resend(setup.now + 60)
    assert setup.ticket.received.ended
    assert setup.said() == []


def test_the_next_holder_starts_with_nothing_parked() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(2, b"of a"))
    setup.ticket.revoke("silent", setup.now)
    setup.hear(B.claim(), B.start(), B.data(1, b"1"))
    assert setup.ticket.received.take() == b"1"


def test_nothing_behind_a_failure_counts() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), A.data(2, b"after the end"), A.fail(1))
    assert setup.ticket.received.buffered == 0
    setup.hear(B.claim(), B.start(), B.data(1, b"b"))
    assert setup.ticket.received.take() == b"b"


@pytest.mark.parametrize(("what", "limit"), [("FRAMES", 2), ("BYTES", 65_538)])
def test_no_more_is_parked_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, what: str, limit: int
) -> None:
    monkeypatch.setattr(reorder, what, limit)
    setup = TicketSetup().held_by(A)
    pieces = [A.data(seq, b"%d" % seq) for seq in (1, 2)]
    setup.hear(*pieces, *pieces, A.data(3, bytes(65_537)), A.start())
    assert setup.ticket.received.take() == b"12"
    setup.hear(A.alive(4), after=1)
    assert setup.said()[-1] == Said("a", Op.RESEND, A.nonce, 3)


def test_published_anew_the_first_delivery_counts_again() -> None:
    setup = TicketSetup().held_by(B)
    setup.ticket.postings.stored(0, 5)
    setup.ticket.revoke("disconnected", setup.now)
    setup.said()
    assert not setup.ticket.vanished(6, setup.now), "that was another one's"
    assert setup.ticket.vanished(5, setup.now)
    assert [job.edition for job in setup.effects.published] == [1]
    late = Holder("late", 3)
    setup.hear(B.claim(), late.claim())
    assert setup.said() == [Said("b", Op.DROP, B.nonce), Said("late", Op.GONE, late.nonce)]
    setup.held_by(Holder("a", 1, edition=1))


@pytest.mark.parametrize("edition", [1, 2, -1])
def test_an_edition_that_never_was_is_nobodys(edition: int) -> None:
    setup, liar = TicketSetup(), Holder("liar", 1, edition=edition)
    setup.hear(liar.claim())
    assert setup.said() == [Said("liar", Op.GONE, liar.nonce)]
    assert setup.ticket.holder is None


def test_spared_the_silence_counts_from_now() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.data(2, b"x"))
    setup.said()
    setup.now += 60
    setup.ticket.spare(setup.now)
    setup.hear(B.claim())
    assert setup.said() == [Said("b", Op.DROP, B.nonce)]
    setup.ticket.ask_resend(setup.now)
    assert setup.said() == [Said("a", Op.RESEND, A.nonce, 0)]


def test_a_kind_of_the_future_keeps_its_place() -> None:
    setup = TicketSetup().held_by(A)
    setup.hear(A.start(), Frame(77, A.attempt, A.nonce, 1, {"odd": 1}), A.data(2, b"x"))
    assert setup.ticket.received.take() == b"x"


@pytest.fixture
async def held() -> Ticket:
    setup = TicketSetup()
    setup.hear(A.claim())
    return setup.ticket


async def test_there_are_news_on_each_thing_that_matters(held: Ticket) -> None:
    news = News([held])
    for frame in (A.start(), A.data(1, b"x"), A.end(2)):
        waiting = asyncio.ensure_future(news.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        held.frame(frame, START)
        await waiting
    assert held.done


async def test_a_failure_is_news(held: Ticket) -> None:
    waiting = asyncio.ensure_future(News([held]).wait())
    await asyncio.sleep(0)
    held.fail(errors.Internal("x"))
    await waiting


async def test_of_several_tickets_any_has_news(held: Ticket) -> None:
    other = TicketSetup()
    news = News([held, other.ticket])
    for ticket in (held, other.ticket):
        waiting = asyncio.ensure_future(news.wait())
        await asyncio.sleep(0)
        ticket.fail(errors.Internal("x"))
        await waiting


async def test_a_wait_that_was_given_up_does_no_harm(held: Ticket) -> None:
    news = News([held])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await news.wait()
    waiting = asyncio.ensure_future(news.wait())
    await asyncio.sleep(0)
    news.tell()
    await waiting
    assert not held.done
