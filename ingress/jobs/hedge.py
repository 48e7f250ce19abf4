"""The second holder of a hedged job: a provider that runs beside the worker.

Whoever has the first byte wins. Until then what the rival says is kept as it came; once it wins,
the ticket reads it like any holder's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.frames import Claim, Frame, Kind

WINNING = frozenset({Kind.DATA, Kind.END})


@dataclass(slots=True)
class Rival:
    """`frames`: what it said so far; few, as its first bytes end the race."""

    claim: Claim
    nonce: int
    heard: float
    frames: list[Frame] = field(default_factory=list)

    def hear(self, frame: Frame, now: float) -> bool:
        """Whether it has won."""
        self.heard = now
        if frame.kind != Kind.ALIVE:
            self.frames.append(frame)
        return frame.kind in WINNING
