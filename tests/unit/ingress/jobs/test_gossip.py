from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.jobs import gossip
from ingress.jobs.gossip import Answer, Learnt, Offer, Standing
from schemas import bounds
from schemas.jobs import VERSION, CodecError

TEXTS = st.text(max_size=20)
NUMBERS = st.integers(0, 2**62)
TAGS = st.floats(0, 1e12)
STANDINGS = st.builds(Standing, TEXTS, NUMBERS, TAGS, TEXTS, TAGS, st.booleans(), TEXTS, TAGS)
OFFERS = st.builds(
    Offer, TEXTS, TEXTS, TEXTS, TEXTS, TAGS, st.booleans(), TEXTS, st.binary(max_size=50)
)
HOLDERS = st.from_regex(r"[a-z]{1,9}\.[0-9a-f]{1,8}", fullmatch=True)
MARKS = st.lists(st.integers(0, 2**64 - 1), max_size=gossip.MOST_MARKS).map(tuple)
LEARNT = st.builds(Learnt, HOLDERS, TEXTS, st.integers(0, bounds.TOKENS), MARKS)
ANSWERS = st.builds(Answer, NUMBERS, st.booleans())


@given(STANDINGS)
def test_standings_come_back(told: Standing) -> None:
    assert gossip.standing(told.pack()) == told


@given(st.one_of(OFFERS, ANSWERS))
def test_what_is_said_of_slots_comes_back(told: Offer | Answer) -> None:
    assert gossip.said(told.pack()) == told


@given(TEXTS, st.lists(LEARNT, max_size=gossip.MOST_LEARNT))
def test_what_is_said_of_caches_comes_back(ingress: str, news: list[Learnt]) -> None:
    assert gossip.learnt(gossip.pack_learnt(ingress, news)) == (ingress, news)


@pytest.mark.parametrize(
    "news",
    [
        [("a.1", "e", 1, b"7 bytes")],
        [("a.1", "e", -1, b"")],
        [("a", "e", 1, b"")],
        [("a.1", "e" * 300, 1, b"")],
        [("a.1", "e", True, b"")],
        [("a.1", "e", 1, b"8 bytes." * (gossip.MOST_MARKS + 1))],
        [("a.1", "e", 1, b"")] * (gossip.MOST_LEARNT + 1),
        [("a.1", "e", 1)],
        ["a.1"],
        "a.1",
    ],
)
def test_news_of_caches_have_bounds(news: Any) -> None:
    with pytest.raises(CodecError):
        gossip.learnt(msgpack.packb((VERSION, "in-1", news)))


@given(st.binary(max_size=60))
def test_rubbish_is_refused(data: bytes) -> None:
    for read in (gossip.standing, gossip.said, gossip.learnt):
        with pytest.raises(CodecError):
            read(data)


@pytest.mark.parametrize(
    "fields",
    [(VERSION + 1, 1, True), (VERSION, 1), (VERSION, 1, 1), (VERSION, "1", True), ()],
)
def test_other_versions_and_types_are_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(CodecError):
        gossip.said(msgpack.packb(fields))
