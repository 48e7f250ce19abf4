from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.answer import fanout
from tests.unit import fakes
from tests.unit.ingress.jobs.recorder import Holder, TicketSetup

A, B = Holder("a", 1), Holder("b", 2)
ROOM = 1_000_000
"""Bytes for the requests of all choices together."""


async def test_the_refusal_of_an_attempt_that_was_lost_is_not_the_end() -> None:
    setup = TicketSetup()
    setup.hear(A.claim(), A.start(status=400), A.data(1, b"{"))
    queue: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()
    pump = asyncio.create_task(fanout._pump(0, setup.ticket, queue))
    await fakes.turns()
    setup.hear(A.fail(2), B.claim(), B.start(), B.data(1, b"data: x\n\n"), B.end(2))
    await pump
    assert [queue.get_nowait(), queue.get_nowait()] == [(0, b"data: x\n\n"), (0, None)]


async def test_a_refusal_ends_the_choice_without_data() -> None:
    setup = TicketSetup()
    setup.hear(A.claim(), A.start(status=400), A.data(1, b"{}"), A.end(2))
    queue: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()
    await fanout._pump(3, setup.ticket, queue)
    assert (queue.get_nowait(), setup.ticket.take()) == ((3, None), b"{}")


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, [0, 1, 2]),
        (7, [7, 8, 9]),
        (-1, [-1, -1, -1]),
        (2**32 - 1, [2**32 - 1] * 3),
        (-2, [-2, -3, -4]),
        (2**31 - 2, [2**31 - 2, 2**31 - 3, 2**31 - 4]),
        (2**32 - 3, [2**32 - 3, 2**32 - 4, 2**32 - 5]),
        (2**64 - 1, [2**64 - 1, 2**64 - 2, 2**64 - 3]),
        (-(2**63), [-(2**63), -(2**63) + 1, -(2**63) + 2]),
    ],
)
def test_each_choice_has_a_seed_that_its_engine_takes(seed: int, expected: list[int]) -> None:
    found = [orjson.loads(body) for body in fanout.bodies({"seed": seed, "n": 3}, 3, ROOM)]
    assert [each["seed"] for each in found] == expected
    assert {each["n"] for each in found} == {1}


@given(st.integers(-(2**63), 2**64 - 1), st.integers(2, 128))
def test_any_seed_goes_with_any_number_of_choices(seed: int, copies: int) -> None:
    found = [orjson.loads(body)["seed"] for body in fanout.bodies({"seed": seed}, copies, ROOM)]
    assert found[0] == seed
    assert len(set(found)) == (1 if seed in (-1, 2**32 - 1) else copies)
    assert set(found).isdisjoint({-1, 2**32 - 1} - {seed})
    assert (found[-1] < 0) == (seed < 0)


def test_choices_without_a_seed_have_none() -> None:
    assert fanout.bodies({"n": 2}, 2, ROOM) == [b'{"n":1}'] * 2
