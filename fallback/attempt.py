"""One attempt at a job in the fallback, and the money that is held for it."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fallback.credits.entries import Hold
from fallback.policy import Choice, Chosen
from fallback.providers.base import Task
from schemas.jobs import Job
from schemas.settings import Route
from workers.engines.base import Sink


class Delivery(Sink, Protocol):
    """A job that this fallback may hold, and the way back to its client; `workers.attempt.Attempt`
    is one. `permitted`: done once the claim is granted. `stopped`: why it is to end early."""

    permitted: Future[None]
    stopped: Exception | None

    @property
    def turn(self) -> tuple[int, int]:
        """(stream sequence, delivery count): of two holders the later one has the higher."""

    def note(self, *pairs: tuple[str, str]) -> None:
        """Say something of the answer that is not in it."""


@dataclass(frozen=True, slots=True)
class ProviderAttempt:
    """A job in hand, the route by which it may leave the house, and what it asks for.
    `began`: Unix seconds."""

    job: Job
    delivery: Delivery
    route: Route
    request: Mapping[str, Any]
    body: bytes
    began: float


@dataclass(slots=True)
class Payment:
    """What an attempt is paid from: the money that is held for it, and the providers for which that
    is enough. `running`: the call under way. `closed`: the ledger has been told what became of
    it."""

    attempt: ProviderAttempt
    hold: Hold
    chosen: Chosen
    running: tuple[Choice, Task] | None = None
    closed: bool = False
