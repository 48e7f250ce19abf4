"""Which engine has which prompts: a map that forgets what the engine must have forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ingress.models.affinity import FIRST, LAST, CacheMap, Place, short

A, B = Place("n.1", "a"), Place("n.2", "b")
ROOM = 1000


def mark(size: int, salt: int = 0) -> int:
    return size << 32 | salt


def talk(salt: int, turns: int) -> list[int]:
    """The marks of a conversation, which begins as all others do."""
    return [mark(1)] + [mark(10 * number, salt) for number in range(1, turns + 1)]


def sizes(made: CacheMap, marks: Sequence[int]) -> dict[Place, int]:
    return {each.place: each.size for each in made.find(marks)}


def test_the_next_turn_is_found_where_the_turn_before_was() -> None:
    made = CacheMap()
    made.learn(A, talk(1, 2), 100, ROOM)
    made.learn(B, talk(2, 2), 100, ROOM)
    found = made.find(talk(1, 3))
    assert [(each.place, each.size, each.ended) for each in found] == [(A, 20, True), (B, 1, False)]
    assert [made.at(place, talk(1, 3)) for place in (A, B)] == found


def test_a_turn_takes_the_place_of_the_one_before() -> None:
    made = CacheMap()
    for turns in range(1, 30):
        made.learn(A, talk(1, turns), 100 + turns, ROOM)
    assert made.tokens(A) == 129
    assert len(made) == FIRST + LAST


def test_the_oldest_is_forgotten_where_there_is_no_room() -> None:
    made = CacheMap()
    for salt in range(1, 12):
        made.learn(A, talk(salt, 1), 100, ROOM)
    assert made.tokens(A) == ROOM
    assert sizes(made, talk(1, 2)) == {A: 1}
    assert all(sizes(made, talk(salt, 2)) == {A: 10} for salt in range(2, 12))


def test_what_an_engine_cannot_keep_is_not_remembered() -> None:
    made = CacheMap()
    made.learn(A, talk(1, 2), ROOM + 1, ROOM)
    assert len(made) == 0
    assert made.find(talk(1, 2)) == []


def test_an_engine_that_lacks_a_prompt_lacks_all_older_ones() -> None:
    made = CacheMap()
    for salt in range(1, 6):
        made.learn(A, [mark(10, salt)], 100, ROOM)
    made.lacks(A, [mark(10, 3)])
    assert [salt for salt in range(1, 6) if made.find([mark(10, salt)])] == [4, 5]


def test_an_engine_that_is_gone_has_nothing() -> None:
    made = CacheMap()
    for place in (A, B):
        made.learn(place, talk(1, 3), 100, ROOM)
    made.leave(A)
    assert sizes(made, talk(1, 4)) == {B: 30}


def test_there_is_a_limit_over_all() -> None:
    made = CacheMap(most=10)
    for salt in range(1, 20):
        made.learn(A if salt % 2 else B, talk(salt, 2), 1, ROOM)
    assert len(made) <= 10


@given(st.lists(st.integers(0, 2**60), max_size=60))
def test_few_marks_are_remembered(marks: list[int]) -> None:
    kept = short(marks)
    assert len(kept) <= FIRST + LAST
    assert kept[-LAST:] == tuple(marks[-LAST:])


class Maps(RuleBasedStateMachine):
    """Whatever is learnt and forgotten, the books are right."""

    def __init__(self) -> None:
        super().__init__()
        self.made = CacheMap(most=60)

    places = st.sampled_from([A, B, Place("n.2", "c")])
    talks = st.builds(talk, st.integers(1, 4), st.integers(1, 5))

    def size(self, place: Place, marks: list[int]) -> int:
        found = self.made.at(place, marks)
        return 0 if found is None else found.size

    @rule(place=places, marks=talks, tokens=st.integers(1, 500))
    def learn(self, place: Place, marks: list[int], tokens: int) -> None:
        self.made.learn(place, marks, tokens, ROOM)
        if tokens <= ROOM:
            assert self.size(place, marks) in (0, marks[-1] >> 32) or len(self.made) > 50

    @rule(place=places, marks=talks)
    def lack(self, place: Place, marks: list[int]) -> None:
        before = self.size(place, marks)
        self.made.lacks(place, marks)
        assert self.size(place, marks) < max(before, 1)

    @rule(place=places)
    def leave(self, place: Place) -> None:
        self.made.leave(place)
        assert self.made.tokens(place) == 0

    @invariant()
    def books(self) -> None:
        kept = self.made._kept
        assert all(each.prompts for each in kept.values())
        assert len(self.made) == sum(
            len(prompt.marks) for each in kept.values() for prompt in each.prompts.values()
        )
        assert len(self.made) <= 60
        for each in kept.values():
            assert each.tokens == sum(prompt.tokens for prompt in each.prompts.values()) <= ROOM
        listed = {(mark, place) for mark, all in self.made._holders.items() for place in all}
        assert listed == {(mark, place) for place, each in kept.items() for mark in each.marks}


TestMaps = Maps.TestCase
