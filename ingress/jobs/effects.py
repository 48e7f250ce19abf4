"""What a ticket does to the world, and when things happened to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from schemas.frames import Op
from schemas.jobs import Job


class Effects(Protocol):
    """What a ticket does to the world."""

    def say(self, holder: str, op: Op, job: str, nonce: int, argument: object = None) -> None:
        """A control message to a holder."""

    def verdict(self, ack: str, word: bytes) -> None:
        """Tell the broker what becomes of a delivery, in its holder's place."""

    def again(self, job: Job) -> None:
        """Put it into the workers' queue anew: its message there went with the worker."""

    def bury(self, job: Job, error: str) -> None:
        """Keep a job past its last attempt as a dead letter, with its last error."""


@dataclass(slots=True)
class Times:
    """Monotonic seconds; 0.0 where it has not happened."""

    queued: float
    claimed: float = 0.0
    first: float = 0.0
    heard: float = 0.0
    asked: float = 0.0
    freed: float = 0.0
    posted: float = 0.0
    wanted: float = 0.0
