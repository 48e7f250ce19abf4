"""What large answers leave in the heap is given back."""

from __future__ import annotations

import itertools

from workers import heap
from workers.heap import EACH, ENOUGH, Heap


def test_it_is_given_back_once_it_is_much_and_not_all_the_time() -> None:
    size, trimmed = 100, list[float]()
    now = 0.0

    def trim(_: int) -> None:
        nonlocal size
        trimmed.append(now)
        size -= ENOUGH // 4

    made = Heap(lambda: size, trim)
    made.look(now)
    size += ENOUGH - 1
    made.look(now)
    assert trimmed == []
    size += ENOUGH
    for now in (1.0, 1.5, 1.0 + EACH, 1.5 + EACH):
        made.look(now)
    assert trimmed == [1.0, 1.0 + EACH]
    size = 100
    made.look(now + EACH)
    assert len(trimmed) == 2


def test_what_stays_is_looked_for_more_and_more_seldom() -> None:
    size, trimmed = 100, list[float]()
    now = 0.0
    made = Heap(lambda: size, lambda _: trimmed.append(now))
    made.look(now)
    size += ENOUGH
    for half in range(1, 400):
        now = half / 2
        made.look(now)
    assert [later - one for one, later in itertools.pairwise(trimmed)] == [
        *(4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
    ]


def test_the_system_says_how_much_a_process_has() -> None:
    assert heap.resident() > 2**20
    Heap().look(0.0)
