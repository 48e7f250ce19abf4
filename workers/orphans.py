"""Which ingresses are gone. The broker says of each claim and each `alive` that nobody hears."""

from __future__ import annotations

PATIENCE = 0.45
"""Seconds that an ingress may take to come back to the broker. A running job speaks twice a second,
so the second report in a row ends it."""
PAUSE = 1.25
"""Seconds without a report after which somebody has heard what was said meanwhile."""
REJOIN = 3.0
"""Seconds after this process has come back to the broker itself: the others were away as well."""


class Orphans:
    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, float]] = {}
        """Of each ingress: the first and the last one in a row."""
        self._joined = float("-inf")

    def joined(self, now: float) -> None:
        """This process has a new connection to the broker."""
        self._joined = now

    def unheard(self, ingress: str, now: float) -> bool:
        """Take a report about an ingress. True if the ingress is gone by now."""
        reports = self._reports
        self._reports = {who: each for who, each in reports.items() if now - each[1] <= PAUSE}
        first, _ = self._reports.get(ingress, (now, now))
        self._reports[ingress] = first, now
        return now - first > PATIENCE and now - self._joined > REJOIN
