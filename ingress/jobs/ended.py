"""What is kept of a request that is over, for those who look, and for what is told of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ingress.jobs.custody import Tenure
from ingress.jobs.state import Times


class Ended(NamedTuple):
    """`number`: later ones have higher numbers. `line`: what the log says. `at`: when it ended, in
    monotonic seconds. `by`: who had it."""

    number: int
    account: str
    arrived: int
    line: dict[str, Any]
    times: Times
    lost: list[Tenure]
    by: str
    at: float
