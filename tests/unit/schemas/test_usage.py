from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import usage
from schemas.bus import Message
from schemas.jobs import CodecError
from schemas.usage import Served, Windows
from tests.unit.fakes import message

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
COUNTS = st.integers(0, 2**53 - 1)
SECONDS = st.floats(0, 1e9)
ROWS = st.builds(Served, *[TEXTS] * 5, *[COUNTS] * 4, SECONDS, *[COUNTS] * 3, SECONDS)


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
        b'[["d","a","k","m","n",1,1,1,1]]',
        b'[["d","a","k","m","n",1,1,1,1,1.5,true]]',
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        usage.unpack(data)


def test_a_message_that_has_no_rows_is_passed_over() -> None:
    row = Served("2026-11-22", "a", "k", "m", "n", 1)
    assert usage.rows(message("usage.in-1", usage.pack([row, row]))) == [row, row]
    assert usage.rows(message("usage.in-1", b'{"type":"x"}')) == []


def test_rows_of_releases_before_and_after_are_read() -> None:
    old: Any = ("2026-11-22", "a", "k", "m", "n", 1, 2, 3, 4, 0.5)
    new: Any = (*old, 6, 7, 8, 9.5, 10)
    found = usage.unpack(orjson.dumps([old, [*new, "more"]]))
    assert found == [Served(*old), Served(*new)]


def counted(sent: list[Message]) -> list[int]:
    windows = Windows()
    found = [each for one in sent if (each := windows.take(one)) is not None]
    return [row.requests for each in (*found, *windows.rest()) for row in usage.rows(each)]


def sent(subject: str, requests: int, headers: dict[str, str] | None = None) -> Message:
    row = Served("2026-11-22", "a", "k", "m", "n", requests)
    return message(f"usage.{subject}", usage.pack([row]), headers=headers)


def test_a_message_that_replaces_another_replaces_it_here_too() -> None:
    """Both come if the first is read before the second is written."""
    told = (("in-1-0", 1), ("in-2-0", 5), ("in-1-0", 2), ("in-1-1", 7))
    assert sorted(counted([sent(*each, usage.REPLACING) for each in told])) == [2, 5, 7]


def test_what_replaces_nothing_is_added() -> None:
    """As older ingresses sent it."""
    assert counted([sent("in-1", 1), sent("in-1", 2)]) == [1, 2]
