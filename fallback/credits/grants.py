"""Grants that are asked for over HTTP.

They come from the broker's account with the keys alone (`schemas.subjects.ASK_GRANT`), and are
bounded: whoever steals that login, or an admin's key, moves no more than so much a day. The
account's own login, as `headrace credits grant` has it, knows no such bound.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import structlog

from fallback.credits.entries import MICRO
from fallback.credits.faults import Refused
from fallback.credits.ledger import Ledger, elapsed
from schemas import bounds

log = structlog.get_logger("credits")

DAY = 86_400.0
"""Seconds."""
_MOST = 10_000
"""Grants of a day, so that what is remembered of them is bounded, too."""
_NOTE = 500
"""Characters; an ingress takes no more."""


class Desk:
    """`daily`: in the currency, what is granted and taken back in any 24 hours. What one fallback
    remembers of it is its own, and ends with it. `clock`: seconds, as of `ledger.elapsed`."""

    def __init__(
        self, ledger: Ledger, daily: Decimal, clock: Callable[[], float] = elapsed
    ) -> None:
        self._ledger = ledger
        self._daily = int(daily * MICRO)
        self._clock = clock
        self._done: dict[tuple[str, str], tuple[float, int]] = {}
        """When, and how much, by account and id; the oldest first."""

    async def answer(self, asked: dict[str, Any]) -> dict[str, int]:
        """Raises ValueError for what is no such question, Refused beyond the bound, Insufficient,
        LedgerError."""
        account, amount, note, id = read(asked)
        name = account, id or secrets.token_hex(16)
        fresh = name not in self._done
        if fresh:
            self._admit(name, amount)
        try:
            balance = await self._ledger.grant(account, amount, note, id)
        except Exception:
            if fresh:
                self._done.pop(name, None)
            raise
        log.info("credits.granted", account=account, amount=amount, by=asked.get("by"))
        return {"available": balance}

    def _admit(self, name: tuple[str, str], amount: int) -> None:
        """Raises Refused."""
        now = self._clock()
        for before, (when, _) in list(self._done.items()):
            if when > now - DAY:
                break
            del self._done[before]
        used = sum(size for _, size in self._done.values())
        if used + abs(amount) > self._daily or len(self._done) >= _MOST:
            left = Decimal(max(0, self._daily - used)) / MICRO
            raise Refused(
                f"over HTTP {left.normalize():f} of {Decimal(self._daily) / MICRO:f} can still be "
                "granted or taken back in these 24 hours ([fallback] grants_daily); "
                "'headrace credits grant' has no such bound"
            )
        self._done[name] = now, abs(amount)


def read(asked: dict[str, Any]) -> tuple[str, int, str, str]:
    """(account, amount, note, id). Raises ValueError, KeyError."""
    account, amount = asked["account"], asked["amount"]
    if not (bounds.is_text(account) and account):
        raise ValueError("a grant names its account, a text")
    if not bounds.is_number(amount, bounds.WHOLE, -bounds.WHOLE):
        raise ValueError("the amount is no whole number of micro-units")
    note, id = asked.get("note", ""), asked.get("id", "")
    if not (bounds.is_text(note, _NOTE) and bounds.is_text(id) and bounds.is_text(asked["by"])):
        raise ValueError("note, id and by are texts")
    return account, amount, note, id
