"""The few numbers that a list of measurements is told by."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that is not below `share` (0 < share <= 1) of them (nearest rank).

    Raises ValueError if there are none.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
