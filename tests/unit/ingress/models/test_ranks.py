from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.models.catalog import Catalog
from ingress.models.nodes import STARTED
from ingress.models.ranks import APART, CLOSE, Ranks, order
from schemas import frames, ranks, subjects
from schemas.frames import Role
from schemas.nodes import LAST_RANK, UNRANKED, Card, ServedModel
from schemas.ranks import Rank
from tests.unit.fakes import FakeBus

FIGURES = st.one_of(st.just(0), st.integers(1, 10**6))
ENGINES = st.lists(
    st.builds(
        ServedModel,
        id=st.just("m"),
        engine=st.just("e"),
        kind=st.just("echo"),
        slots=st.just(1),
        token_us=FIGURES,
        prompt_us=FIGURES,
        request_us=FIGURES,
        priority=st.integers(0, 8),
        rank=st.integers(0, 9),
    ),
    min_size=1,
    max_size=12,
)


def served(token_ms: float = 0.0, **more: int) -> ServedModel:
    more = {"rank": 0, **more}
    return ServedModel("m", "e", "echo", 4, token_us=round(token_ms * 1000), **more)  # type: ignore[arg-type]


def settled(*engines: ServedModel) -> list[int]:
    """Their ranks, once each asks with the one that it was told."""
    found = order(engines)
    return order([replace(each, rank=rank) for each, rank in zip(engines, found, strict=True)])


def test_the_faster_engine_is_asked_first() -> None:
    assert order([served(40.0), served(10.0)]) == [1, 0]
    assert order([served(70.0), served(18.0), served(10.0)]) == [2, 1, 0]


def test_engines_about_as_fast_are_beside_each_other() -> None:
    assert order([served(10.0), served(11.0), served(12.0)]) == [0, 0, 0]


def test_there_are_as_many_ranks_as_needed_and_no_more_than_there_are() -> None:
    assert order([served(2.0**at) for at in range(12)]) == [*range(8), *[LAST_RANK] * 4]


def test_one_of_which_nothing_is_known_is_with_the_fastest() -> None:
    assert order([served(), served(10.0), served(40.0)]) == [0, 0, 1]


def test_the_operators_order_goes_before_pace() -> None:
    engines = [served(10.0, priority=1), served(40.0), served(20.0), served(priority=1)]
    assert order(engines) == [2, 1, 0, 2]


def test_prompts_count_once_all_are_known() -> None:
    quick, thorough = served(10.0, prompt_us=5000), served(13.0, prompt_us=100)
    assert order([quick, thorough]) == [1, 0]
    assert order([quick, thorough, served(10.0)]) == [0, 1, 0]


def test_without_tokens_whole_requests_count() -> None:
    engines = [served(request_us=2_000_000), served(request_us=500_000), served()]
    assert order(engines) == [1, 0, 0]
    assert order([*engines, served(10.0)]) == [0, 0, 0, 0], "they cannot be compared"


@pytest.mark.parametrize("ratio", [CLOSE + 0.01, APART - 0.01])
def test_within_the_band_all_stays_as_it_is(ratio: float) -> None:
    fast, slow = served(100.0), served(100.0 * ratio)
    assert order([fast, slow]) == [0, 0]
    assert order([fast, replace(slow, rank=1)]) == [0, 1]


def test_beyond_the_band_it_changes() -> None:
    assert order([served(100.0), served(100.0 * APART + 1)]) == [0, 1]
    assert order([served(100.0), served(100.0 * CLOSE - 1, rank=1)]) == [0, 0]


@given(ENGINES)
def test_the_order_follows_pace_within_a_priority(engines: list[ServedModel]) -> None:
    engines = [replace(each, prompt_us=0, request_us=0) for each in engines]
    ranked = list(zip(engines, order(engines), strict=True))
    for one, rank in ranked:
        for other, behind in ranked:
            if one.priority < other.priority:
                assert rank < behind or rank == behind == LAST_RANK
            elif one.priority == other.priority and one.token_us < other.token_us:
                assert rank <= behind
                if one.token_us * 2 < other.token_us and one.token_us:
                    assert rank < behind or rank == behind == LAST_RANK


@given(ENGINES)
def test_who_asks_as_he_was_told_is_told_nothing_else(engines: list[ServedModel]) -> None:
    assert settled(*engines) == order(engines)


class House:
    """What workers show, and what they are told."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.now = 0.0
        self.catalog = Catalog(lambda: self.now)
        self.ranks = Ranks(bus, self.catalog)
        self.now = STARTED

    def show(self, node: str, *models: ServedModel) -> None:
        self.catalog.hear(Card(f"{node}.1", node, "", 0, "", models=models))

    async def told(self) -> dict[str, list[Rank]]:
        self.bus.posts.clear()
        await self.ranks.tell()
        said = {post.subject: frames.unpack_control(post.payload) for post in self.bus.posts}
        assert {each.op for each in said.values()} <= {frames.Op.RANK}
        return {subject: ranks.unpack(each.given) for subject, each in said.items()}


@pytest.fixture
def house(bus: FakeBus) -> House:
    return House(bus)


async def test_a_worker_is_told_until_its_card_shows_that_it_heard(house: House) -> None:
    house.show("fast", served(10.0))
    house.show("slow", served(40.0))
    wanted = {subjects.control("slow.1"): [Rank("e", "m", 1)]}
    assert await house.told() == wanted
    assert await house.told() == wanted
    house.show("slow", served(40.0, rank=1))
    assert await house.told() == {}


async def test_one_alone_and_one_of_an_earlier_release_are_told_nothing(house: House) -> None:
    house.show("alone", served(10.0, rank=3))
    assert await house.told() == {}
    house.show("old", served(rank=UNRANKED))
    assert await house.told() == {subjects.control("alone.1"): [Rank("e", "m", 0)]}


async def test_providers_are_in_no_order(house: House) -> None:
    house.show("slow", served(40.0))
    paid = Card("f.1", "f", "", 0, "", models=(served(10.0, rank=3),), role=Role.FALLBACK)
    house.catalog.hear(paid)
    assert await house.told() == {}


async def test_many_ranks_are_told_in_several_messages(house: House, bus: FakeBus) -> None:
    names = [f"m{at}" for at in range(ranks.MOST + 1)]
    for node, token_ms in (("fast", 10.0), ("slow", 40.0)):
        house.show(node, *(replace(served(token_ms), id=name) for name in names))
    await house.told()
    told = [rank for post in bus.posts for rank in ranks.unpack(_given(post.payload))]
    assert (len(bus.posts), told) == (2, [Rank("e", name, 1) for name in names])


def _given(payload: bytes) -> bytes:
    return frames.unpack_control(payload).given


def test_what_is_measured_is_no_news_of_what_is_served(house: House) -> None:
    """Plans of requests are made anew with each edition."""
    house.show("fast", served(10.0))
    edition = house.catalog.edition
    house.show("fast", served(40.0, rank=1))
    assert house.catalog.edition == edition
    assert [each.token_us for each in house.catalog.serving("m")] == [40_000]
