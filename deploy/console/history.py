"""The last hour of each model, from the requests that ended: tokens a second, times to the first
token, waits in the queue. Pure.

Times are kept as counts by classes, so that an hour costs the same whatever was asked in it. A
class is a tenth wider than the one before: a quantile is that exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

STEP = 10.0
"""Seconds of one point."""
POINTS = 360
"""Of each model: one hour."""
MOST_MODELS = 64
"""The next ones count as one, `OTHERS`."""
OTHERS = "(others)"

_SHORTEST = 0.001
"""Seconds up to which all times are of one class."""
_WIDER = math.log(1.1)


@dataclass(slots=True)
class Spread:
    """How times in seconds are spread."""

    _counts: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        self._counts[max(0, math.ceil(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _WIDER))] += 1

    def join(self, other: Spread) -> None:
        self._counts.update(other._counts)

    def quantile(self, of: float) -> float | None:
        """Seconds within which this part of all is (0 to 1); None if there are none."""
        left = math.ceil(of * self._counts.total()) or 1
        for each in sorted(self._counts):
            left -= self._counts[each]
            if left <= 0:
                return _SHORTEST * math.exp((each - 0.5) * _WIDER) if each else _SHORTEST
        return None


@dataclass(slots=True)
class _Bucket:
    """What ended in the seconds of a point; `tokens` came in them."""

    tokens: float = 0.0
    ended: int = 0
    ttft: Spread = field(default_factory=Spread)
    wait: Spread = field(default_factory=Spread)


@dataclass(frozen=True, slots=True)
class Point:
    """`at`: Unix seconds at which it begins. `rate`: tokens a second of answers that have ended.
    Times are seconds, None if nothing ended. `ended`: requests."""

    at: float
    rate: float
    ended: int
    ttft_p50: float | None
    ttft_p95: float | None
    wait_p50: float | None
    wait_p95: float | None


class History:
    """`add` takes rows of ``GET /v1/requests``, each once."""

    def __init__(self) -> None:
        self._models: dict[str, dict[int, _Bucket]] = {}

    def add(self, row: Mapping[str, Any], now: float) -> None:
        """A request that ended. `now`: Unix seconds; what is older than an hour is left out."""
        began, took = _number(row, "arrived"), _number(row, "took")
        if began is None or took is None:
            return
        model = self._of(str(row.get("model", "")), now)
        last = int(now // STEP)
        at = min(int((began + took) // STEP), last)  # clocks differ
        if at <= last - POINTS:
            return
        bucket = model.setdefault(at, _Bucket())
        bucket.ended += 1
        # What is no stream comes at once: its first token says nothing.
        wait, ttft = _number(row, "queued_for"), _number(row, "ttft") if row.get("stream") else None
        for seconds, spread in ((ttft, bucket.ttft), (wait, bucket.wait)):
            if seconds is not None:
                spread.add(seconds)
        tokens = _number(row, "completion_tokens") or 0.0
        since = ttft if row.get("stream") else wait
        for place, part in _parts(began + min(since or 0.0, took), began + took):
            if last - POINTS < place <= last:
                model.setdefault(place, _Bucket()).tokens += tokens * part

    def models(self, now: float) -> list[str]:
        """Those of which something ended in the last hour."""
        self._forget(now)
        return sorted(self._models)

    def points(self, now: float, model: str = "", of: int = 1) -> list[Point]:
        """The last hour of a model, or of all, the oldest first; each of so many steps (`of`). The
        step that is not over yet is left out."""
        models = self._models.values() if not model else [self._models.get(model, {})]
        end = int(now // STEP)
        starts = range(end - POINTS + (POINTS % of), end, of)
        return [_point(start, of, models) for start in starts]

    def _of(self, model: str, now: float) -> dict[int, _Bucket]:
        if model not in self._models and len(self._models) >= MOST_MODELS:
            self._forget(now)
            if len(self._models) >= MOST_MODELS:
                model = OTHERS
        return self._models.setdefault(model, {})

    def _forget(self, now: float) -> None:
        since = int(now // STEP) - POINTS
        for model, buckets in list(self._models.items()):
            for at in [at for at in buckets if at <= since]:
                del buckets[at]
            if not buckets:
                del self._models[model]


def _point(start: int, of: int, models: Iterable[Mapping[int, _Bucket]]) -> Point:
    whole = _Bucket()
    for buckets in models:
        for at in range(start, start + of):
            if (bucket := buckets.get(at)) is not None:
                whole.tokens += bucket.tokens
                whole.ended += bucket.ended
                whole.ttft.join(bucket.ttft)
                whole.wait.join(bucket.wait)
    return Point(
        start * STEP,
        whole.tokens / (of * STEP),
        whole.ended,
        whole.ttft.quantile(0.5),
        whole.ttft.quantile(0.95),
        whole.wait.quantile(0.5),
        whole.wait.quantile(0.95),
    )


def _parts(since: float, until: float) -> Iterator[tuple[int, float]]:
    """The steps from `since` to `until` (Unix seconds), with the part of that time in each."""
    first, last = int(since // STEP), int(until // STEP)
    if first == last:
        yield last, 1.0
        return
    for place in range(max(first, last - POINTS), last + 1):
        begins, ends = max(since, place * STEP), min(until, (place + 1) * STEP)
        yield place, (ends - begins) / (until - since)


def _number(row: Mapping[str, Any], name: str) -> float | None:
    found = row.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if math.isfinite(found) and found >= 0 else None
