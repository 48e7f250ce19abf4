"""What a ticket makes of the frames of its holder, and of their losses."""

from __future__ import annotations

import asyncio

import pytest

from ingress.jobs import reorder
from ingress.jobs import ticket as tickets
from ingress.jobs.ticket import Ticket
from schemas import errors
from schemas.frames import Frame, Op
from tests.unit.ingress.jobs.recorder import START, Case, Holder, Said

A, B = Holder("a", 1), Holder("b", 2)


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


@pytest.mark.parametrize(("what", "limit"), [("FRAMES", 2), ("BYTES", 65_538)])
def test_no_more_is_parked_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, what: str, limit: int
) -> None:
    monkeypatch.setattr(reorder, what, limit)
    case = Case().held_by(A)
    pieces = [A.data(seq, b"%d" % seq) for seq in (1, 2)]
    case.hear(*pieces, *pieces, A.data(3, bytes(65_537)), A.start())
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
