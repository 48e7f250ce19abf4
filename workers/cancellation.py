"""Why an attempt is stopped before its end: its client left, its ingress is gone, another has it.

The attempt's task ends with `Withdrawn`; the engine's connection closes with the task, and the
runner frees the slot and tells the broker what is to become of the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from schemas.frames import Op
from schemas.jetstream.words import NAK, TERM


class Reason(Enum):
    """Why an attempt stops although its engine did nothing wrong.

    `told`: the words for the log and the ingress. `verdict`: the reply to the broker, b"" for no
    reply. `deserted`: nobody waits for the answer, and nobody else works on the job.
    """

    CANCELLED = "cancelled", TERM, True
    """The client left."""
    GONE = "gone", TERM, True
    """The ingress no longer waits for the answer."""
    ORPHANED = "its ingress is gone", TERM, True
    """The ingress does not answer or does not listen."""
    DROPPED = "dropped", b"", False
    """Another worker holds the job."""
    LEFT = "left", NAK, False
    """A fallback may not take the job: it must not leave the house, or is not overdue yet."""
    SUPERSEDED = "superseded", b"", False
    """A later holder has reserved credits for the job."""
    UNSENDABLE = "frames were lost", TERM, False
    """The ingress misses frames that this worker no longer keeps."""

    def __init__(self, told: str, verdict: bytes, deserted: bool) -> None:
        self.told = told
        self.verdict = verdict
        self.deserted = deserted


class Withdrawn(Exception):
    """The attempt must stop; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.told)
        self.reason = reason


BY_OP: Mapping[int, Reason] = {
    Op.CANCEL: Reason.CANCELLED,
    Op.GONE: Reason.GONE,
    Op.DROP: Reason.DROPPED,
    Op.LEAVE: Reason.LEFT,
}
"""What an ingress says that ends an attempt."""
