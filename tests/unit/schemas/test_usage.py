from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import usage
from schemas.jobs import CodecError
from schemas.usage import Served
from tests.unit.fakes import FakeBus, message

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
COUNTS = st.integers(0, 2**53)
ROWS = st.builds(
    Served, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, COUNTS, COUNTS, COUNTS, COUNTS, st.floats(0, 1e9)
)


@given(st.lists(ROWS, max_size=10))
def test_rows_come_back_as_they_were(rows: list[Served]) -> None:
    assert usage.unpack(usage.pack(rows)) == rows


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"1",
        b"[1]",
        b"[[]]",
        b'[["d","a"]]',
        b'["abcdefghijk"]',
        b'[["d","a","k","m","n","x",1,1,1,1]]',
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        usage.unpack(data)


async def test_a_message_that_has_no_rows_does_not_hide_the_others() -> None:
    bus, row = FakeBus("_I.in-1"), Served("2026-11-22", "a", "k", "m", "n", 1)
    bus.api_answer = lambda verb, body: {"num_pending": 2}
    reading = asyncio.create_task(usage.read(bus, 0.0))
    await bus.until(lambda posts: posts)
    inbox = bus.posts[0].reply
    for data in (b'{"type":"x"}', usage.pack([row])):
        bus.deliver(message(inbox, data))
    assert await reading == [row]
