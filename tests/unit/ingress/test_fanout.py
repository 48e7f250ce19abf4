from __future__ import annotations

import asyncio

from ingress import fanout
from tests.unit import fakes
from tests.unit.ingress.recorder import Case, Holder

A, B = Holder("a", 1), Holder("b", 2)


async def test_the_refusal_of_an_attempt_that_was_lost_is_not_the_end() -> None:
    case = Case()
    case.hear(A.claim(), A.start(status=400), A.data(1, b"{"))
    queue: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()
    pump = asyncio.create_task(fanout._pump(0, case.ticket, queue))
    await fakes.turns()
    case.hear(A.fail(2), B.claim(), B.start(), B.data(1, b"data: x\n\n"), B.end(2))
    await pump
    assert [queue.get_nowait(), queue.get_nowait()] == [(0, b"data: x\n\n"), (0, None)]


async def test_a_refusal_ends_the_choice_without_data() -> None:
    case = Case()
    case.hear(A.claim(), A.start(status=400), A.data(1, b"{}"), A.end(2))
    queue: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()
    await fanout._pump(3, case.ticket, queue)
    assert (queue.get_nowait(), case.ticket.take()) == ((3, None), b"{}")
