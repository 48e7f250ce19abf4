"""The money of a small world: what fallbacks reserve and charge, by the real state of the ledger.

An entry is written at once. That two of them may cross is what `test_ledger_machine` is for; here
a holder may be lost, speak on, and be replaced between any two of its steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from fallback.credits.entries import Entry, EntryKind, Name
from fallback.credits.state import LedgerState

JOB = "j"


@dataclass
class Books:
    """`turns`: each holder's reservation, and how it was closed, if it was. `free`: holders that
    serve for nothing, as the job is paid."""

    turns: dict[int, EntryKind | None] = field(default_factory=dict)
    free: set[int] = field(default_factory=set)

    @property
    def charges(self) -> int:
        return sum(closed is EntryKind.CHARGE for closed in self.turns.values())

    def reserve(self, turn: int, first: bool) -> bool:
        """As `Ledger.reserve`. False if a later holder has reserved."""
        if not first and not self._oust(turn):
            return False
        if turn in self.free or turn in self.turns:
            return True
        self.turns[turn] = None
        return True

    def _oust(self, turn: int) -> bool:
        state = self._state()
        for booking in state.below(Name(JOB, turn)):
            self.turns[booking.name.turn] = EntryKind.RELEASE
        if state.paid(JOB):
            self.free.add(turn)
            return True
        return not state.outranked(Name(JOB, turn))

    def close(self, turn: int, charge: bool) -> None:
        """As `Ledger.settle`, and `Ledger.release`."""
        if turn in self.turns and self.turns[turn] is None:
            charge = charge and not self._state().outranked(Name(JOB, turn))
            self.turns[turn] = EntryKind.CHARGE if charge else EntryKind.RELEASE

    def _state(self) -> LedgerState:
        return _state_of(*sorted(self.turns.items()))


@cache
def _state_of(*turns: tuple[int, EntryKind | None]) -> LedgerState:
    state = LedgerState()
    for turn, closed in turns:
        for kind in filter(None, (EntryKind.RESERVE, closed)):
            state.apply(Entry("a", kind, 0, 0, state.seq + 1, 0.0, JOB, turn))
    return state
