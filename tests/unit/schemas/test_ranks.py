from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ranks
from schemas.jobs import CodecError
from schemas.ranks import MOST, Rank

NAMES = st.text(max_size=20)
RANKS = st.lists(st.builds(Rank, NAMES, NAMES, st.integers(0, 8)), max_size=MOST)


@given(RANKS)
def test_ranks_come_back_as_they_were(told: list[Rank]) -> None:
    assert ranks.unpack(ranks.pack(told)) == told


@pytest.mark.parametrize(
    "said",
    [
        [["e", "m", 9]],
        [["e", "m", -1]],
        [["e", "m", True]],
        [["e", "m", 1.0]],
        [["e", 1, 1]],
        [["e" * 257, "m", 1]],
        [["e", "m" * 1025, 1]],
        [["e", "m"]],
        [["e", "m", 1, 1]],
        [1],
        {"e": 1},
        [["e", "m", 1]] * (MOST + 1),
    ],
)
def test_what_is_no_rank_is_refused(said: Any) -> None:
    with pytest.raises(CodecError):
        ranks.unpack(msgpack.packb(said))


@given(st.binary(max_size=100))
def test_no_bytes_are_anything_but_ranks_or_refused(data: bytes) -> None:
    with suppress(CodecError):
        assert isinstance(ranks.unpack(data), list)
