"""Tells which ingresses are gone: the broker reports each claim and `alive` that nobody hears."""

from __future__ import annotations

PATIENCE = 0.45
"""Seconds that an ingress may take to come back to the broker. A running job speaks twice a second,
so the second report in a row ends it."""
PAUSE = 1.25
"""After so many seconds without a report, the ingress has heard something that was said to it."""
REJOIN = 3.0
"""Seconds after this process itself came back to the broker. Until then no ingress counts as gone,
because the ingresses may have lost the broker, too."""


class LostIngresses:
    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, float]] = {}
        """Of each ingress: the first and the last one in a row."""
        self._joined = float("-inf")

    def joined(self, now: float) -> None:
        """This process has a new connection to the broker."""
        self._joined = now

    def unheard(self, ingress: str, now: float) -> bool:
        """Take a report about an ingress. True if the ingress is gone by now."""
        # A report that is older than this belongs to another absence.
        reports = self._reports
        self._reports = {who: each for who, each in reports.items() if now - each[1] <= PAUSE}
        first, _ = self._reports.get(ingress, (now, now))
        self._reports[ingress] = first, now
        return now - first > PATIENCE and now - self._joined > REJOIN
