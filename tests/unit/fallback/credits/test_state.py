from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from fallback.credits.entries import Entry, Kind, Name
from fallback.credits.state import View


@pytest.fixture
def view() -> View:
    return View()


class Writer:
    """Entries of one job in the order in which they are made."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seq = count(1)

    def __call__(self, kind: Kind, turn: int, job: str = "j", **more: Any) -> Entry:
        fields = {"change": 0, "balance": 50, "at": 100.0, "amount": 10, "holder": f"h{turn}"}
        entry = Entry("acme", kind, seq=next(self._seq), job=job, turn=turn, **{**fields, **more})
        self._view.apply(entry)
        return entry


@pytest.fixture
def write(view: View) -> Writer:
    return Writer(view)


def test_a_reservation_is_open_until_it_is_closed_once(view: View, write: Writer) -> None:
    write(Kind.RESERVE, 1)
    (claim,) = view.open()
    assert (claim.name, claim.holder, claim.seq, claim.balance) == (Name("j", 1), "h1", 1, 50)
    assert view.reserved("acme") == 10
    assert view.reserved("other") == 0

    write(Kind.RELEASE, 1)
    write(Kind.CHARGE, 1)
    assert view.open() == []
    assert not view.paid("j"), "the first one closed it"
    assert view.seq == 3


def test_an_entry_counts_once(view: View, write: Writer) -> None:
    opened = write(Kind.RESERVE, 1)
    write(Kind.CHARGE, 1)
    view.apply(opened)
    assert view.open() == []


def test_a_later_holder_outranks_while_it_is_open(view: View, write: Writer) -> None:
    write(Kind.RESERVE, 1)
    write(Kind.RESERVE, 2)
    assert view.outranked(Name("j", 1))
    assert not view.outranked(Name("j", 2))
    assert [claim.name.turn for claim in view.below(Name("j", 2))] == [1]

    write(Kind.RELEASE, 2)
    assert not view.outranked(Name("j", 1)), "it can never charge any more"


def test_a_charge_outranks_everybody_else(view: View, write: Writer) -> None:
    write(Kind.RESERVE, 1)
    write(Kind.RESERVE, 2)
    write(Kind.CHARGE, 1)
    assert view.paid("j")
    assert view.outranked(Name("j", 2))
    write(Kind.RELEASE, 2)
    assert not view.outranked(Name("j", 1))
    assert not view.paid("other")


def test_takes_of_a_holder_are_counted(view: View, write: Writer) -> None:
    assert view.takes("j", 1) == 0
    write(Kind.RESERVE, 1, take=0)
    write(Kind.RESERVE, 1, take=1)
    assert (view.takes("j", 1), view.takes("j", 2)) == (2, 0)


def test_what_came_before_is_adopted_unless_it_was_closed_since(view: View, write: Writer) -> None:
    write(Kind.RELEASE, 1, job="closed")
    older = View()
    past = Writer(older)
    past(Kind.RESERVE, 1, job="closed")
    past(Kind.RESERVE, 1, job="open")
    past(Kind.RESERVE, 1, job="paid")
    past(Kind.CHARGE, 1, job="paid")

    view.adopt(older)
    assert [claim.name.job for claim in view.open()] == ["open"]
    assert view.paid("paid")


def test_what_is_open_or_recent_is_not_forgotten(view: View, write: Writer) -> None:
    write(Kind.RESERVE, 1, job="old", at=10.0)
    write(Kind.CHARGE, 1, job="old", at=11.0)
    write(Kind.RESERVE, 1, job="open", at=10.0)
    write(Kind.RESERVE, 1, job="new", at=30.0)
    write(Kind.CHARGE, 1, job="new", at=31.0)
    view.forget(20.0)
    assert (view.knows("old"), view.knows("open"), view.knows("new")) == (False, True, True)
    assert len(view) == 2


def test_other_entries_are_only_counted(view: View, write: Writer) -> None:
    write(Kind.GRANT, 0, job="")
    write(Kind.OTHER, 0, job="")
    assert (len(view), view.seq) == (0, 2)
