from __future__ import annotations

from ingress.jobs.floods import BYTES, CARDS, MOST_NODES, PROCESSES, QUIET, Floods


def test_a_node_that_floods_is_read_no_more_until_the_next_second() -> None:
    floods = Floods()
    taken = [floods.admits("bad", "bad.w", 100, 5.0 + n / 1000) for n in range(900)]
    assert taken == [True] * CARDS + [False] * (900 - CARDS)
    assert floods.admits("good", "good.w", 100, 5.9), "others are"
    assert floods.admits("bad", "bad.w", 100, 6.0)


def test_cards_together_have_bytes() -> None:
    floods = Floods()
    assert [floods.admits("n", "n.w", BYTES // 2, 1.0) for _ in range(3)] == [True, True, False]


def test_a_node_has_so_many_processes_at_a_time() -> None:
    floods = Floods()
    for number in range(PROCESSES):
        assert floods.admits("n", f"n.{number}", 1, 1.0)
    assert not floods.admits("n", "n.more", 1, 2.0)
    assert floods.admits("n", "n.0", 1, 2.0), "one that is known"
    assert floods.admits("n", "n.more", 1, 1.5 + QUIET), "the others are gone"


def test_nodes_are_bounded_and_the_oldest_goes() -> None:
    floods = Floods()
    for number in range(MOST_NODES + 10):
        assert floods.admits(f"n{number}", "w", 1, 1.0)
    assert len(floods._nodes) == MOST_NODES
