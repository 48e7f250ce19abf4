from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import waiting
from schemas.jetstream import queues
from schemas.jetstream.queues import Queue
from schemas.jobs import CodecError
from schemas.waiting import Waiting

NAMES = st.sampled_from(["a", "b.c", "ü"])
ROWS = st.lists(
    st.builds(Waiting, NAMES, st.sampled_from("ib"), NAMES, st.integers(1, 9), st.floats(0, 1e6)),
    max_size=20,
)


@given(ROWS)
def test_what_is_packed_is_read(rows: list[Waiting]) -> None:
    assert waiting.unpack(waiting.pack("in-1", rows)) == ("in-1", tuple(rows))


@pytest.mark.parametrize(
    "data", [b"", b"x", b"[]", b"{}", b'{"ingress":"i","waiting":[{"model":"m"}]}']
)
def test_rubbish_is_told_apart(data: bytes) -> None:
    with pytest.raises(CodecError):
        waiting.unpack(data)


@given(ROWS)
def test_rows_add_up_to_one_for_each_account_in_a_queue(rows: list[Waiting]) -> None:
    found = waiting.summed(rows)
    keys = [(row.model, row.lane, row.account) for row in found]
    assert len(set(keys)) == len(keys)
    assert sum(row.waiting for row in found) == sum(row.waiting for row in rows)
    assert {row.oldest for row in found} <= {row.oldest for row in rows}
    # The lanes of a model in the order in which they are served.
    places = [(row.model, row.lane == "b", -row.waiting) for row in found]
    assert places == sorted(places)


def test_the_brokers_counts_are_corrected_by_what_ingresses_know() -> None:
    """It counts a job that was handed back as given out."""
    queue = Queue("m", "b", 3, 0, 3, None, 1, served=True)
    (found,) = queues.counted(
        [queue], [Waiting("m", "b", "x", 1, 4.0), Waiting("m", "b", "y", 1, 2.0)]
    )
    assert (found.waiting, found.in_flight, found.oldest) == (2, 1, 4.0)
    (same,) = queues.counted([queue], [Waiting("m", "i", "x", 1, 4.0)])
    assert same == queue


def test_what_only_the_broker_knows_stays() -> None:
    queue = Queue("m", "i", 5, 4, 1, 9.0, 0, served=True)
    (found,) = queues.counted([queue], [Waiting("m", "i", "x", 9, 4.0)])
    assert (found.waiting, found.in_flight, found.oldest) == (5, 0, 9.0)
