from __future__ import annotations

from workers.orphans import PAUSE, REJOIN, Orphans


def test_two_reports_in_a_row_are_enough() -> None:
    orphans = Orphans()
    assert [orphans.unheard("in-1", 100 + 0.5 * n) for n in range(3)] == [False, True, True]


def test_who_is_gone_is_gone_for_its_next_job() -> None:
    orphans = Orphans()
    orphans.unheard("in-1", 100.0)
    orphans.unheard("in-1", 100.5)
    assert orphans.unheard("in-1", 100.6)
    assert not orphans.unheard("in-2", 100.6)


def test_who_was_heard_between_two_reports_is_not_gone() -> None:
    orphans = Orphans()
    found = [orphans.unheard("in-1", 100 + (PAUSE + 0.1) * n) for n in range(5)]
    assert not any(found)


def test_whoever_was_away_with_this_process_has_time_to_come_back() -> None:
    orphans = Orphans()
    orphans.joined(100.0)
    assert not any(orphans.unheard("in-1", 100 + 0.5 * n) for n in range(7))
    assert orphans.unheard("in-1", 100.1 + REJOIN)
