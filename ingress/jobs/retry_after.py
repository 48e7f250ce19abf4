"""Whether a queue is full, and when a client that is refused may come again to be let in."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial

WINDOW = 64
"""How many of the last answers of a model tell its pace."""
UNKNOWN = 5.0
"""Seconds to say when nothing is known of the pace."""
LONGEST = 300.0
"""Seconds that a client is told to wait at most."""
FRESH = 0.05
"""Seconds for which it is believed at most that a queue is full because it was."""
ASKING = 0.5
"""Seconds that the broker has to say whether there is room again."""
LINE = 60.0
"""Seconds within which all who are refused have their turn, unless the queue alone takes longer.
OpenAI's and Anthropic's clients keep to no longer times."""


class RetryAfter:
    """`slots`: how many requests of a model and lane are worked on at once. `took`: seconds for
    which engines worked on the last ones.

    A full queue, a tenant's or that of all, holds `depth` requests, and slots and seconds tell how
    fast it drains, also if there was little to do before. Who is refused is told to come when half
    of it has drained, and those who are refused after him in their turn: all at once they would
    find room for a few. Each ingress lets in its share, which is its share of the queue. Turns are
    forgotten when nobody was refused for as long as a full queue takes to drain.
    """

    def __init__(self, slots: Callable[[str, str], int]) -> None:
        self.took = defaultdict[str, deque[float]](partial(deque, maxlen=WINDOW))
        self._slots = slots
        self._last: dict[tuple[str, str, str], tuple[float, float]] = {}
        """When somebody was refused last, and when he may come."""
        self.full: dict[tuple[str, str, str], float] = {}
        """Until when a tenant's queue is believed to be full, or the broker was asked. Empty where
        none was full: so the usual request asks nothing of this object."""

    def was_full(self, model: str, lane: str, tenant: str, now: float) -> None:
        """The broker refused a job. Others need not ask it as long as no place can have come free:
        a refusal must be quick above all when there are many."""
        self.full[model, lane, tenant] = now + min(self.each(model, lane), FRESH)

    def is_full(self, model: str, lane: str, tenant: str, now: float) -> bool:
        """Whether to refuse without asking the broker. After a refusal only one asks at a time:
        this one, if the answer is False, and the others once it has an answer."""
        if (until := self.full.get((model, lane, tenant))) is None:
            return False
        if now >= until:
            self.full[model, lane, tenant] = now + ASKING
        return now < until

    def freed(self, model: str, lane: str, tenant: str) -> None:
        """There is room, as far as is known: an answer has ended, or the broker took a job."""
        self.full.pop((model, lane, tenant), None)

    def refuse(
        self,
        model: str,
        lane: str,
        *,
        depth: int,
        queued: int,
        now: float,
        tenant: str = "",
        part: float = 1.0,
    ) -> float:
        """Seconds that the next one is told to wait. `queued`: what this ingress has of the queue
        that is full. `tenant`: whose queue that is; else it is that of all. `part`: of all that is
        served, what comes from that queue."""
        each = self.each(model, lane) / part
        if not each:
            return UNKNOWN
        share = min(depth, max(1, queued)) / depth
        first = now + each * depth / 2
        refused, turn = self._last.get((model, lane, tenant), (now, now))
        if now - refused > each * depth:
            turn = now
        turn = min(max(first, turn) + each / share, max(first, now + LINE))
        self._last[model, lane, tenant] = now, turn
        return min(LONGEST, max(1.0, turn - now))

    def each(self, model: str, lane: str) -> float:
        """Seconds after which a place in a full queue comes free; 0.0 if unknown."""
        took, slots = self.took.get(model), self._slots(model, lane)
        return sum(took) / len(took) / slots if took and slots else 0.0
