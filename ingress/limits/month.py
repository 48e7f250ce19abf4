"""The sums of the month: what the record has, and what is not written yet. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ingress.limits.terms import Moment
from schemas.limits import MONTHLY_CREDITS, MONTHLY_TOKENS, Record

Sums = tuple[int, int, int]
"""The month, tokens and credits."""


class Month:
    """What was settled here. A month that is over is of no use to its limits, so what was not
    written of it is forgotten."""

    def __init__(self) -> None:
        self.unwritten: Sums = (0, 0, 0)

    def spend(self, tokens: int, micro: int, now: Moment) -> None:
        month, before, micro_before = self.unwritten
        if month != now.month:
            before = micro_before = 0
        self.unwritten = now.month, before + tokens, micro_before + micro

    def add_to(self, record: Record, now: Moment) -> None:
        """Add to the sums of a record, which begins a new month if one is over."""
        if now.month > record.month:
            record.month, record.tokens, record.credits = now.month, 0, 0
        month, tokens, micro = self.unwritten
        if month == record.month:
            record.tokens += tokens
            record.credits += micro

    def wrote_down(self, written: Sums) -> None:
        month, tokens, micro = self.unwritten
        if month == written[0]:
            self.unwritten = month, tokens - written[1], micro - written[2]

    def used(self, budget: str, record: Record, now: Moment) -> int:
        month, tokens, micro = self.unwritten
        kept = {MONTHLY_TOKENS: record.tokens, MONTHLY_CREDITS: record.credits}
        own = {MONTHLY_TOKENS: tokens, MONTHLY_CREDITS: micro}
        return kept[budget] * (record.month >= now.month) + own[budget] * (month >= now.month)

    def part(self, budgets: Mapping[str, int], record: Record, now: Moment) -> float:
        """Which part of the budget is used of which most is; 0.0 if there are none."""
        parts = (self.used(name, record, now) / most for name, most in budgets.items())
        return max(parts, default=0.0)
