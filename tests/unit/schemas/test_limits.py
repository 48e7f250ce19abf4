"""The record of what is used of a key's limits."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import limits
from schemas.jobs import CodecError
from schemas.limits import AHEAD, Record, Row, unpack

MOMENTS = st.integers(0, 2**42)
AMOUNTS = st.integers(-(2**40), 2**40)
NAMES = st.text(max_size=8)
METERS = st.dictionaries(MOMENTS, AMOUNTS, min_size=1, max_size=6)
HELD = st.dictionaries(NAMES, st.integers(0, 2**40), max_size=3)
ROWS = st.builds(Row, NAMES, MOMENTS, MOMENTS, HELD, MOMENTS, HELD)
RECORDS = st.builds(
    Record,
    st.dictionaries(NAMES, METERS, max_size=3),
    st.lists(ROWS, max_size=3).map(lambda rows: {row.owner: row for row in rows}),
    MOMENTS,
    MOMENTS,
    MOMENTS,
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert unpack(record.pack()) == record


@given(st.binary(max_size=60))
def test_garbage_is_no_record(data: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(data)


@given(RECORDS, st.data())
def test_a_damaged_record_is_none_or_another(record: Record, data: st.DataObject) -> None:
    packed = bytearray(record.pack())
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CodecError):
        unpack(bytes(packed))


def test_the_message_names_another_version() -> None:
    data = msgpack.packb([limits.VERSION + 1, {}, [], 0, 0, 0])
    with pytest.raises(CodecError, match=f"version {limits.VERSION + 1}"):
        unpack(data)


def test_what_is_older_than_the_window_counts_no_more() -> None:
    row = Row("in-1", 1, until=99, leases={"requests": 2}, alive=150, gauges={"concurrent": 1})
    record = Record({"requests": {99: 1, 100: 2, 120: -1}}, {"in-1": row})
    aged = record.aged(since=100, now=140)
    assert aged.meters == {"requests": {100: 2, 120: -1}}
    assert aged.rows["in-1"].leases == {}
    assert aged.held("concurrent") == 1
    assert aged.total("requests") == 1
    assert record.aged(since=100, now=151).rows == {}


def test_a_stamp_far_ahead_counts_as_made_now() -> None:
    """It was made before the broker's clock was set back."""
    far = 5000 + AHEAD + 1
    row = Row("in-1", 1, until=far, leases={"requests": 2}, alive=far, gauges={"concurrent": 1})
    aged = Record({"requests": {far: 1}}, {"in-1": row}).aged(since=4000, now=5000)
    assert aged.meters == {"requests": {5000: 1}}
    assert (aged.rows["in-1"].until, aged.rows["in-1"].alive) == (5000, 5000)
