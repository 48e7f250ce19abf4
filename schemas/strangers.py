"""Who speaks another version of the protocol: said in the log, but not once for each message."""

from __future__ import annotations

import time

from structlog.typing import FilteringBoundLogger

from schemas.jobs import OtherVersion

EVERY = 60.0
"""Seconds between two lines about the same one."""
_MOST = 1000
"""That are remembered."""


class Strangers:
    def __init__(self, log: FilteringBoundLogger, event: str) -> None:
        self._log = log
        self._event = event
        self._said: dict[str, float] = {}

    def refused(self, who: str, fault: OtherVersion, **about: object) -> None:
        """A message of `who` was not read."""
        now = time.monotonic()
        if now - self._said.get(who, -EVERY) < EVERY:
            return
        if len(self._said) >= _MOST:
            self._said.clear()
        self._said[who] = now
        self._log.error(self._event, of=who, version=fault.version, error=str(fault), **about)
