"""What accounts have, as metrics. Only what this process has heard of them anyway is shown, so the
broker is asked once, at the start."""

from __future__ import annotations

import structlog

from fallback.credits.entries import MICRO, Balance
from fallback.credits.faults import LedgerError
from fallback.credits.ledger import Ledger
from schemas import metrics

log = structlog.get_logger("credits")


class CreditGauges:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._shown: set[str] = set()

    async def open(self) -> None:
        """Ask for accounts that were not used lately, and show all. It waits for all of the
        journal, however long that takes."""
        try:
            await self._ledger.recollect(metrics.MOST_ACCOUNTS)
        except LedgerError as fault:
            log.warning("credits.not_recollected", error=str(fault))
        self.show()

    def show(self) -> None:
        """Those that were used last by name, all others together as `metrics.OTHER`."""
        named, rest = self._ledger.standing(metrics.MOST_ACCOUNTS)
        if rest is not None:
            own = named.get(metrics.OTHER, Balance(0, 0))  # an account may be called so
            both = own.available + rest.available, own.reserved + rest.reserved
            named[metrics.OTHER] = Balance(*both)
        for account in self._shown - named.keys():
            metrics.CREDITS_AVAILABLE.remove(account)
            metrics.CREDITS_RESERVED.remove(account)
        for account, balance in named.items():
            metrics.CREDITS_AVAILABLE.labels(account).set(balance.available / MICRO)
            metrics.CREDITS_RESERVED.labels(account).set(balance.reserved / MICRO)
        self._shown = set(named)
