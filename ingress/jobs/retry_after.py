"""How fast a model's queue drains, for a Retry-After that is true."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from functools import partial

WINDOW = 64
"""How many of the last answers of a model tell its pace."""
UNKNOWN = 5.0
"""Seconds to say when nothing was answered lately."""
LONGEST = 300.0
"""Seconds that a client is told to wait at most, and after which an answer tells no pace."""


class DrainRate:
    """`ends`: when the last answers of each model ended, in monotonic seconds. `open`: requests of
    each model that this ingress has. Its share of the queue is its share of the answers, so the
    queue drains in the time that its own requests take, whatever the other ingresses have."""

    def __init__(self) -> None:
        self.open = Counter[str]()
        self.ends = defaultdict[str, deque[float]](partial(deque, maxlen=WINDOW))

    def wait(self, model: str, depth: int, now: float) -> float:
        """Seconds until what is open now is answered, at the pace of the last answers. What is open
        beyond `depth` is about to be refused."""
        ends = self.ends.get(model)
        if not ends or len(ends) < 2 or now - ends[-1] > LONGEST:
            return UNKNOWN
        rate = (len(ends) - 1) / max(now - ends[0], 1e-3)
        return min(LONGEST, max(1.0, min(depth, self.open[model]) / rate))
