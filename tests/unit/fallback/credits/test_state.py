from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from fallback.credits.entries import Entry, EntryKind, Name
from fallback.credits.state import LedgerState


@pytest.fixture
def state() -> LedgerState:
    return LedgerState()


class Writer:
    """Entries of one job in the order in which they are made."""

    def __init__(self, state: LedgerState) -> None:
        self._view = state
        self._seq = count(1)

    def __call__(self, kind: EntryKind, turn: int, job: str = "j", **more: Any) -> Entry:
        fields = {"change": 0, "balance": 50, "at": 100.0, "amount": 10, "holder": f"h{turn}"}
        entry = Entry("acme", kind, seq=next(self._seq), job=job, turn=turn, **{**fields, **more})
        self._view.apply(entry)
        return entry


@pytest.fixture
def write(state: LedgerState) -> Writer:
    return Writer(state)


def test_a_reservation_is_open_until_it_is_closed_once(state: LedgerState, write: Writer) -> None:
    write(EntryKind.RESERVE, 1)
    (claim,) = state.open()
    assert (claim.name, claim.holder, claim.seq, claim.balance) == (Name("j", 1), "h1", 1, 50)
    assert state.reserved("acme") == 10
    assert state.reserved("other") == 0

    write(EntryKind.RELEASE, 1)
    write(EntryKind.CHARGE, 1)
    assert state.open() == []
    assert not state.paid("j"), "the first one closed it"
    assert state.seq == 3


def test_an_entry_counts_once(state: LedgerState, write: Writer) -> None:
    opened = write(EntryKind.RESERVE, 1)
    write(EntryKind.CHARGE, 1)
    state.apply(opened)
    assert state.open() == []


def test_a_later_holder_outranks_while_it_is_open(state: LedgerState, write: Writer) -> None:
    write(EntryKind.RESERVE, 1)
    write(EntryKind.RESERVE, 2)
    assert state.outranked(Name("j", 1))
    assert not state.outranked(Name("j", 2))
    assert [claim.name.turn for claim in state.below(Name("j", 2))] == [1]

    write(EntryKind.RELEASE, 2)
    assert not state.outranked(Name("j", 1)), "it can never charge any more"


def test_a_charge_outranks_everybody_else(state: LedgerState, write: Writer) -> None:
    write(EntryKind.RESERVE, 1)
    write(EntryKind.RESERVE, 2)
    write(EntryKind.CHARGE, 1)
    assert state.paid("j")
    assert state.outranked(Name("j", 2))
    write(EntryKind.RELEASE, 2)
    assert not state.outranked(Name("j", 1))
    assert not state.paid("other")


def test_takes_of_a_holder_are_counted(state: LedgerState, write: Writer) -> None:
    assert state.takes("j", 1) == 0
    write(EntryKind.RESERVE, 1, take=0)
    write(EntryKind.RESERVE, 1, take=1)
    assert (state.takes("j", 1), state.takes("j", 2)) == (2, 0)


def test_what_came_before_is_adopted_unless_it_was_closed_since(
    state: LedgerState, write: Writer
) -> None:
    write(EntryKind.RELEASE, 1, job="closed")
    older = LedgerState()
    past = Writer(older)
    past(EntryKind.RESERVE, 1, job="closed")
    past(EntryKind.RESERVE, 1, job="open")
    past(EntryKind.RESERVE, 1, job="paid")
    past(EntryKind.CHARGE, 1, job="paid")

    state.adopt(older)
    assert [claim.name.job for claim in state.open()] == ["open"]
    assert state.paid("paid")


def test_what_is_open_or_recent_is_not_forgotten(state: LedgerState, write: Writer) -> None:
    write(EntryKind.RESERVE, 1, job="old", at=10.0)
    write(EntryKind.CHARGE, 1, job="old", at=11.0)
    write(EntryKind.RESERVE, 1, job="open", at=10.0)
    write(EntryKind.RESERVE, 1, job="new", at=30.0)
    write(EntryKind.CHARGE, 1, job="new", at=31.0)
    state.forget(20.0)
    assert (state.knows("old"), state.knows("open"), state.knows("new")) == (False, True, True)
    assert len(state) == 2


def test_other_entries_are_only_counted(state: LedgerState, write: Writer) -> None:
    write(EntryKind.GRANT, 0, job="")
    write(EntryKind.OTHER, 0, job="")
    assert (len(state), state.seq) == (0, 2)
