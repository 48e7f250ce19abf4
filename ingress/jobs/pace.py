"""How fast a queue drains, from what has been given out of it. Pure."""

from __future__ import annotations

from collections import deque

WINDOW = 30.0
"""Seconds that tell the pace. Longer ago, other jobs may have run."""
WEIGHT = 4
"""How many jobs that were given out count as much as what is known of the engines."""


class Pace:
    """The pace of one queue since somebody began to wait in it. Before that, jobs were given out as
    they came, which tells nothing."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, now: float, given: int) -> None:
        """`given`: how many jobs have been given out of the queue since it was made."""
        if self._looks and given < self._looks[-1][1]:
            self._looks.clear()  # the queue was made anew
        self._looks.append((now, given))
        while self._looks[-1][0] - self._looks[0][0] > WINDOW:
            self._looks.popleft()

    def each(self, expected: float) -> float:
        """Seconds between two jobs; 0.0 if nothing is known. `expected`: what engines should take,
        by their slots and their last answers; 0.0 if unknown. The longer a queue is watched, the
        less this counts."""
        if not self._looks:
            return expected
        (since, before), (now, given) = self._looks[0], self._looks[-1]
        jobs, weight = given - before, WEIGHT if expected else 0
        if not jobs + weight:
            return 0.0
        return (now - since + weight * expected) / (jobs + weight)
