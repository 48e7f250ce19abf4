from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.answer.fanout import Joined, bodies
from schemas.api import sse
from schemas.api.chat.join import Join
from schemas.errors import BodyTooLarge, EngineFailed
from schemas.frames import Frame, Start
from tests.unit.ingress.jobs.recorder import Holder, TicketSetup

A, B = Holder("a", 1), Holder("b", 2)
ROOM = 1_000_000
"""Bytes for the requests of all choices together."""


def chunk(text: str) -> bytes:
    return sse.dump({"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]})


def texts(events: bytes) -> list[tuple[int, str]]:
    """Of each choice in these events, its index and its text."""
    choices = [each["choices"][0] for each in sse.objects(events)]
    return [(choice["index"], choice["delta"]["content"]) for choice in choices]


class Two:
    """Two jobs of one stream, each held by A; and both as one."""

    def __init__(self) -> None:
        self.setups = [TicketSetup().held_by(A), TicketSetup().held_by(A)]
        tickets = [setup.ticket for setup in self.setups]
        self.said: dict[str, str] = {}
        self.joined = Joined(tickets, Join(2), self.said)

    def hear(self, job: int, *frames: Frame) -> None:
        self.setups[job].hear(*frames)


async def test_the_refusal_of_an_attempt_that_was_lost_is_not_the_end() -> None:
    two = Two()
    two.hear(0, A.start(status=400), A.data(1, b"{"))
    two.hear(1, A.start(), A.data(1, chunk("b")))
    assert texts(two.joined.take()) == [(1, "b")]
    assert (two.joined.done, two.joined.buffered) == (False, 0)
    two.hear(0, A.fail(2), B.claim(), B.start(), B.data(1, chunk("a")), B.end(2))
    assert texts(two.joined.take()) == [(0, "a")]
    assert two.joined.error is None


async def test_an_event_that_cannot_be_joined_is_an_error_of_all() -> None:
    two = Two()
    two.hear(1, A.start(), A.data(1, chunk("b")))
    two.hear(0, A.start(), A.data(1, sse.dump({"choices": [5]})))
    assert texts(two.joined.take()) == [(1, "b")]
    assert (two.joined.done, two.joined.buffered) == (True, 0)
    assert two.joined.error is not None
    assert two.joined.error.code == "engine_failed"


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b'{"choices":5}', b'{"choices":[5]}', b'{"choices":[{"index":"a"}]}']
)
async def test_documents_that_cannot_be_joined_are_an_error(answer: bytes) -> None:
    setups = [TicketSetup(stream=False).held_by(A) for _ in range(2)]
    joined = Joined([setup.ticket for setup in setups], Join(2), {})
    for setup in setups:
        setup.hear(A.start(), A.data(1, answer), A.end(2))
    with pytest.raises(EngineFailed, match="cannot be joined"):
        await joined.document()


async def test_a_refusal_is_that_of_all() -> None:
    two = Two()
    two.hear(1, A.start(), A.data(1, chunk("b")))
    two.hear(0, A.start(status=400), A.data(1, b"{}"), A.end(2))
    assert two.joined.done
    assert two.joined.head == Start(400, "text/event-stream")
    assert (two.joined.take(), two.joined.buffered) == (b"{}", 0)


async def test_the_end_comes_once_when_all_have_ended() -> None:
    two = Two()
    two.said["x-headrace-served-by"] = "node:node-a"
    usage = sse.dump({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    for job in (0, 1):
        two.hear(job, A.start(), A.data(1, chunk("t") + usage + sse.DONE), A.end(2))
    first, second, comment, last, done = sse.split(two.joined.take())
    assert comment == b": x-headrace-cost 0", "what the head did not say"
    assert texts(first + sse.BREAK + second) == [(0, "t"), (1, "t")]
    assert sse.load(last)["usage"]["completion_tokens"] == 4
    assert done + sse.BREAK == sse.DONE
    assert (two.joined.done, two.joined.buffered, two.joined.error) == (True, 0, None)


async def test_comments_and_what_is_no_chunk_are_left_out() -> None:
    two = Two()
    two.hear(0, A.start(), A.data(1, b": keep-alive\n\ndata: null\n\n" + sse.DONE))
    assert two.joined.buffered
    assert (two.joined.take(), two.joined.buffered) == (b"", 0)


async def test_a_chunk_may_come_in_pieces() -> None:
    """A worker cuts what is longer than a frame, such as the whole arguments of a call."""
    two = Two()
    told = chunk("a" * 99)
    two.hear(0, A.start(), A.data(1, told[:50]))
    two.hear(1, A.start(), A.data(1, told))
    assert texts(two.joined.take()) == [(1, "a" * 99)]
    two.hear(0, A.data(2, told[50:]))
    assert texts(two.joined.take()) == [(0, "a" * 99)]


async def test_bodies_differ_by_their_seed() -> None:
    found = [orjson.loads(body) for body in await bodies({"n": 3, "seed": 5, "x": [1]}, 3, 100)]
    assert found == [{"n": 1, "seed": 5 + i, "x": [1]} for i in range(3)]
    one, other = await bodies({"n": 2}, 2, 0)
    assert orjson.loads(one) == {"n": 1}
    assert one is other, "a large request is not kept several times"
    with pytest.raises(BodyTooLarge):
        await bodies({"n": 2, "seed": 1, "x": "x" * 40}, 2, 100)


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
async def test_each_choice_has_a_seed_that_its_engine_takes(seed: int, expected: list[int]) -> None:
    found = [orjson.loads(body) for body in await bodies({"seed": seed, "n": 3}, 3, ROOM)]
    assert [each["seed"] for each in found] == expected
    assert {each["n"] for each in found} == {1}


@given(st.integers(-(2**63), 2**64 - 1), st.integers(2, 128))
async def test_any_seed_goes_with_any_number_of_choices(seed: int, copies: int) -> None:
    found = [orjson.loads(body)["seed"] for body in await bodies({"seed": seed}, copies, ROOM)]
    assert found[0] == seed
    assert len(set(found)) == (1 if seed in (-1, 2**32 - 1) else copies)
    assert set(found).isdisjoint({-1, 2**32 - 1} - {seed})
    assert (found[-1] < 0) == (seed < 0)


async def test_choices_without_a_seed_have_none() -> None:
    assert await bodies({"n": 2}, 2, ROOM) == [b'{"n":1}'] * 2
