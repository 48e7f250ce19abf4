"""One attempt at a job in the fallback, and the money that is held for it."""

from __future__ import annotations

import time
from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fallback.credits.entries import Hold
from fallback.policy import Choice, Chosen
from fallback.providers.base import Task
from schemas.jobs import Job
from schemas.settings import Route
from workers.engines.base import Sink


class Delivery(Sink, Protocol):
    """A job that this fallback may hold, and the way back to its client; `workers.attempt.Attempt`
    implements it. `permitted`: done once the ingress grants the claim. `stopped`: why the attempt
    must end early, or None."""

    permitted: Future[None]
    stopped: Exception | None

    @property
    def turn(self) -> tuple[int, int]:
        """(stream sequence, delivery count): a later holder of the job has a higher pair."""

    def note(self, *pairs: tuple[str, str]) -> None:
        """Tell the ingress facts about the answer that its bytes do not hold."""


@dataclass(frozen=True, slots=True)
class ProviderAttempt:
    """A job in hand, the route by which it may go to a provider, and its parsed request.
    `began`: Unix seconds, which are for people; `since`: the same in monotonic seconds."""

    job: Job
    delivery: Delivery
    route: Route
    request: Mapping[str, Any]
    body: bytes
    began: float
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Payment:
    """The money that is held for an attempt, and the providers whose worst case it covers.
    `running`: the call under way. `closed`: the hold was charged or released, or soon will be."""

    attempt: ProviderAttempt
    hold: Hold
    chosen: Chosen
    running: tuple[Choice, Task] | None = None
    closed: bool = False
