"""Whether a provider is worth asking now. Pure: it reads the clock that it is given.

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
    """`failures` in a row open it for `pause` seconds; then one request tries. A provider that said
    when to come back (`Retry-After`) is left alone until then, which is no failure. `well`: nothing
    has gone wrong since it answered last, so that there is nothing to ask or tell it."""

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
        """When it may be asked: `now` or later."""
        return max(now, self.until)

    def admit(self, now: float) -> bool:
        """Whether to ask it now. In the half-open state one is let through at a time."""
        if now < self.until or (self.probing and self.row >= self.failures):
            return False
        self.probing = self.row >= self.failures
        return True

    def succeeded(self) -> None:
        """A call that began earlier may end well after another was told when to come back: that
        still holds. What failures opened is closed."""
        if self.row >= self.failures:
            self.until = 0.0
        self.row, self.probing, self.reason = 0, False, ""
        self.well = not self.until

    def failed(self, now: float, reason: str) -> None:
        self.row += 1
        self.well, self.probing, self.reason = False, False, reason
        if self.row >= self.failures:
            self.until = now + self.pause

    def busy(self, now: float, retry_after: float | None, reason: str) -> None:
        """It answers, but not now."""
        if retry_after is None:
            self.failed(now, reason)
            return
        self.well, self.probing, self.reason = False, False, reason
        self.until = max(self.until, now + retry_after)

    def trip(self, now: float, pause: float, reason: str) -> None:
        """It will not answer for a while, whatever the next request is."""
        self.row, self.probing, self.reason = max(self.row, self.failures), False, reason
        self.well = False
        self.until = max(self.until, now + pause)

    def undecided(self) -> None:
        """The request that was let through ended without a verdict: it was cancelled."""
        self.probing = False
