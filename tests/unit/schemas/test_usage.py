from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import usage
from schemas.bus import Message
from schemas.jobs import CodecError
from schemas.usage import Served
from tests.unit.fakes import message

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


def test_a_message_that_has_no_rows_is_passed_over() -> None:
    row = Served("2026-11-22", "a", "k", "m", "n", 1)
    assert usage.rows(message("usage.in-1", usage.pack([row, row]))) == [row, row]
    assert usage.rows(message("usage.in-1", b'{"type":"x"}')) == []


def test_a_message_that_replaces_another_replaces_it_here_too() -> None:
    """Both come if the first is read before the second is written."""

    def sent() -> Iterator[Message]:
        for subject, requests in (("in-1-0", 1), ("in-2-0", 5), ("in-1-0", 2), ("in-1-1", 7)):
            row = Served("2026-11-22", "a", "k", "m", "n", requests)
            yield message(f"usage.{subject}", usage.pack([row]), headers=usage.REPLACING)

    assert sorted(row.requests for row in usage.served(sent())) == [2, 5, 7]


def test_what_replaces_nothing_is_added() -> None:
    """As older ingresses sent it."""

    def sent() -> Iterator[Message]:
        for requests in (1, 2):
            row = Served("2026-11-22", "a", "k", "m", "n", requests)
            yield message("usage.in-1", usage.pack([row]))

    assert [row.requests for row in usage.served(sent())] == [1, 2]
