from __future__ import annotations

from workers.lost_ingresses import PAUSE, REJOIN, LostIngresses


def test_two_reports_in_a_row_are_enough() -> None:
    lost = LostIngresses()
    assert [lost.unheard("in-1", 100 + 0.5 * n) for n in range(3)] == [False, True, True]


def test_who_is_gone_is_gone_for_its_next_job() -> None:
    lost = LostIngresses()
    lost.unheard("in-1", 100.0)
    lost.unheard("in-1", 100.5)
    assert lost.unheard("in-1", 100.6)
    assert not lost.unheard("in-2", 100.6)


def test_who_was_heard_between_two_reports_is_not_gone() -> None:
    lost = LostIngresses()
    found = [lost.unheard("in-1", 100 + (PAUSE + 0.1) * n) for n in range(5)]
    assert not any(found)


def test_whoever_was_away_with_this_process_has_time_to_come_back() -> None:
    lost = LostIngresses()
    lost.joined(100.0)
    assert not any(lost.unheard("in-1", 100 + 0.5 * n) for n in range(7))
    assert lost.unheard("in-1", 100.1 + REJOIN)
