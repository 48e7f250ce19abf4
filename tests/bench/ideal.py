"""What one perfect queue in front of several backends would do, as a yardstick.

First come, first served; nobody waits while a slot is free anywhere; of the free slots that of the
fastest backend is taken; nothing costs time but the tokens.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Backend:
    """`slots` requests at a time, each a token every `token_s` seconds, the first one as well."""

    slots: int
    token_s: float


def ttft(
    arrivals: Sequence[float], tokens: Sequence[int], backends: Sequence[Backend]
) -> list[float]:
    """Seconds from each arrival to its first token: the wait and one token's time."""
    return [wait + token_s for wait, token_s in _served(arrivals, tokens, backends)]


def answers(
    arrivals: Sequence[float], tokens: Sequence[int], backends: Sequence[Backend]
) -> list[float]:
    """The same to the end of each answer."""
    served = _served(arrivals, tokens, backends)
    return [wait + count * token_s for count, (wait, token_s) in zip(tokens, served, strict=True)]


def _served(
    arrivals: Sequence[float], tokens: Sequence[int], backends: Sequence[Backend]
) -> list[tuple[float, float]]:
    """How long each waits for a slot, and that slot's seconds a token.

    `arrivals` are seconds in ascending order, `tokens` the length of each reply. Raises ValueError
    if they are not in order, differ in number, or there is no slot.
    """
    if list(arrivals) != sorted(arrivals) or len(arrivals) != len(tokens):
        raise ValueError("arrivals must ascend, and have one number of tokens each")
    if not sum(backend.slots for backend in backends):
        raise ValueError("no slot")
    # One heap by the time of getting free, one of the free slots by speed.
    busy: list[tuple[float, float]] = []
    free = [backend.token_s for backend in backends for _ in range(backend.slots)]
    heapq.heapify(free)
    clock, served = 0.0, []
    for arrival, count in zip(arrivals, tokens, strict=True):
        clock = max(clock, arrival)
        if not free:
            clock = max(clock, _next(busy, free))
        while busy and busy[0][0] <= clock:
            _next(busy, free)
        token_s = heapq.heappop(free)
        heapq.heappush(busy, (clock + count * token_s, token_s))
        served.append((clock - arrival, token_s))
    return served


def _next(busy: list[tuple[float, float]], free: list[float]) -> float:
    """Free the slot that gets free first; return when that is."""
    when, token_s = heapq.heappop(busy)
    heapq.heappush(free, token_s)
    return when
