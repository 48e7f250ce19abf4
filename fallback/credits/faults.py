"""Why credits are not reserved, charged or read."""

from __future__ import annotations


class LedgerError(Exception):
    """The journal cannot be read or written now; the message says why."""


class Insufficient(LedgerError):
    """The account holds fewer micro-units than `needed`."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} needed, {max(0, available)} available")
        self.needed = needed
        self.available = max(0, available)


class Refused(Exception):
    """The ledger does not do what it was asked to; the message says why."""


class Superseded(LedgerError):
    """A later holder has this job: stop, and answer nothing."""
