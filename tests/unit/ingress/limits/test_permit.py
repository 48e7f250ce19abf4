"""What an answer is counted as, once it is over."""

from __future__ import annotations

import pytest

from ingress.limits.permit import micro, used
from schemas import errors
from tests.unit.ingress.jobs.recorder import FallbackHolder, Holder, TicketSetup

PROMPT, ESTIMATE = 10, 500


def count(setup: TicketSetup) -> int:
    return used(setup.ticket, PROMPT, ESTIMATE)


def test_what_the_engine_counted() -> None:
    setup, holder = TicketSetup(), Holder("w", 1)
    setup.held_by(holder).hear(holder.start(), holder.data(1, b"x"), holder.end(2))
    assert count(setup) == 3 + 4


def test_an_engine_that_does_not_count_has_it_estimated() -> None:
    setup, holder = TicketSetup(), Holder("w", 1)
    end = holder.end(2)
    unknown = end._replace(body=(-1, -1, *end.body[2:]))
    setup.held_by(holder).hear(holder.start(), holder.data(1, b"x"), unknown)
    assert count(setup) == ESTIMATE


def test_nobody_worked_on_it() -> None:
    assert count(TicketSetup()) == 0


def test_a_refusal_of_the_engine_has_no_tokens() -> None:
    setup, holder = TicketSetup(), Holder("w", 1)
    setup.held_by(holder).hear(holder.start(status=400), holder.data(1, b"x"), holder.end(2))
    assert count(setup) == 0


def test_an_answer_that_breaks_off_is_the_prompt_and_what_came() -> None:
    setup, holder = TicketSetup(), FallbackHolder("f", 1)
    setup.ticket.offer(setup.now)
    setup.held_by(holder).hear(holder.start(), holder.data(1, b"x"), holder.data(2, b"y"))
    setup.ticket.fail(errors.ClientGone("left"))
    assert count(setup) == PROMPT + 3


@pytest.mark.parametrize(
    ("cost", "millionths"),
    [("0.000012 USD", 12), ("0", 0), ("", 0), ("1.5 EUR", 1_500_000), ("0.0000004 USD", 0)],
)
def test_what_an_answer_did_cost(cost: str, millionths: int) -> None:
    assert micro(cost) == millionths
