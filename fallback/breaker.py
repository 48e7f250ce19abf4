"""Decides whether a provider is worth asking now. Pure: callers pass the time.

::

    closed ──failures in a row──▶ open ──time──▶ half-open ──success──▶ closed
                                   ▲                  └──failure──┘
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(slots=True)
class Breaker:
    """`failures` in a row open the breaker for `pause` seconds; then one request tries. A provider
    that said when to come back (`Retry-After`) is left alone until then, and that does not count as
    a failure. `well`: nothing failed since the last answer, so callers may skip the breaker."""

    failures: int
    pause: float
    well: bool = True
    row: int = 0
    until: float = 0.0
    probing: bool = False
    reason: str = ""

    def state(self, now: float) -> State:
        if self.row < self.failures:
            return "closed"
        return "open" if now < self.until else "half-open"

    def ready_at(self, now: float) -> float:
        """When the provider may be asked: `now` or later."""
        return max(now, self.until)

    def admit(self, now: float) -> bool:
        """Whether to ask the provider now. A half-open breaker admits one request at a time."""
        if now < self.until or (self.probing and self.row >= self.failures):
            return False
        self.probing = self.row >= self.failures
        return True

    def succeeded(self) -> None:
        """Close what failures opened. A time set by `Retry-After` still holds: this call may have
        begun before the provider named that time to another call."""
        if self.row >= self.failures:
            self.until = 0.0
        self.row, self.probing, self.reason = 0, False, ""
        self.well = not self.until

    def failed(self, now: float, reason: str) -> None:
        self.row += 1
        self.well, self.probing, self.reason = False, False, reason
        # Also after a probe: the row was not reset, so one more failure opens it again.
        if self.row >= self.failures:
            self.until = now + self.pause

    def busy(self, now: float, retry_after: float | None, reason: str) -> None:
        """The provider has no room now. Without a time to come back, that counts as a failure."""
        if retry_after is None:
            self.failed(now, reason)
            return
        self.well, self.probing, self.reason = False, False, reason
        self.until = max(self.until, now + retry_after)

    def trip(self, now: float, pause: float, reason: str) -> None:
        """Open at once: the provider would refuse any request for a while."""
        self.row, self.probing, self.reason = max(self.row, self.failures), False, reason
        self.well = False
        self.until = max(self.until, now + pause)

    def undecided(self) -> None:
        """The call ended and told nothing about the provider, for example as it was cancelled."""
        self.probing = False
