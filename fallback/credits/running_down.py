"""Says that an account's prepaid credits run out: what is left is compared with what the account
had after its last grant. What is reserved is not used yet."""

from __future__ import annotations

import asyncio

import structlog

from fallback.credits.faults import LedgerError
from fallback.credits.ledger import Ledger
from schemas.alerts import CREDITS, MICRO, Budget
from schemas.jetstream.alarm import Alarm

log = structlog.get_logger("credits")

SCARCE = 80.0
"""Percent from which on a refused request shows that the credits are gone: the last of them seldom
pay for a whole request."""


class RunningDown:
    def __init__(self, ledger: Ledger, alarm: Alarm) -> None:
        self._ledger = ledger
        self._alarm = alarm
        self._looking: dict[str, asyncio.Task[None]] = {}
        """By account: one look at a time."""
        self._again: dict[str, bool] = {}
        """Accounts that are to be looked at once more, and whether a request was refused."""

    def look(self, account: str, *, refused: bool = False) -> None:
        """Look at the account if it may have come to a threshold. Never waits. `refused`: a request
        was refused as the account has too little for it."""
        top = self._ledger.topped(account)
        if top is None:
            return
        if account in self._looking:
            self._again[account] = refused or self._again.get(account, False)
            return
        near = self._ledger.near(account, self._alarm.lowest)
        if near and not self._alarm.is_done(CREDITS, account, "", _period(top.seq)):
            self._looking[account] = asyncio.create_task(self._look(account, refused))

    async def close(self) -> None:
        for task in list(self._looking.values()):
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)

    async def _look(self, account: str, refused: bool) -> None:
        try:
            found, top = await self._ledger.balance(account), self._ledger.topped(account)
            if top is not None:  # it was known before
                used = max(0, top.balance - found.available - found.reserved)
                period = _period(top.seq)
                budget = Budget(CREDITS, account, "", period, used, top.balance, MICRO)
                self._alarm.note(budget, empty=refused and budget.share >= SCARCE)
        except LedgerError as fault:
            log.warning("credits.not_looked_at", account=account, error=str(fault))
        finally:
            del self._looking[account]
        if account in self._again:
            self.look(account, refused=self._again.pop(account))


def _period(grant: int) -> str:
    return f"grant {grant}"
