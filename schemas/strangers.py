"""Logs what others send that cannot be read, but not each of their messages."""

from __future__ import annotations

import time

from structlog.typing import FilteringBoundLogger

from schemas.jobs import OtherVersion

EVERY = 60.0
"""Seconds between two lines about the same process."""
_MOST = 1000
"""Processes that are remembered; a bound, as their names come from the wire."""


class Seldom:
    """Says of each process once a minute that something is to be said of it."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def is_time(self, who: str) -> bool:
        now = time.monotonic()
        if now - self._said.get(who, -EVERY) < EVERY:
            return False
        if len(self._said) >= _MOST:
            self._said.clear()
        self._said[who] = now
        return True


class Strangers:
    """Processes that speak another version of the protocol."""

    def __init__(self, log: FilteringBoundLogger, event: str) -> None:
        self._log = log
        self._event = event
        self._seldom = Seldom()

    def refused(self, who: str, fault: OtherVersion, **about: object) -> None:
        """Log that a message of `who` could not be read, unless it was logged lately."""
        if self._seldom.is_time(who):
            self._log.error(self._event, of=who, version=fault.version, error=str(fault), **about)
