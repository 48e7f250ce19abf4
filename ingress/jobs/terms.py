"""What is settled before a job is published, and when things happened to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """`may_leave`: a provider may take it once no worker does. `hedge_after`: seconds that a worker
    has for the first byte before a provider is asked, too; none is if 0.0. `resumable`: a provider
    may continue its stream if that breaks."""

    max_attempts: int
    may_leave: bool = False
    hedge_after: float = 0.0
    resumable: bool = False


@dataclass(slots=True)
class Times:
    """Monotonic seconds; 0.0 where it has not happened. `posted`: its newest edition was. `freed`:
    since then nobody holds it. `first`: the answer began. `offered`: providers were called.
    `sought`: its message was looked for."""

    queued: float
    posted: float
    freed: float
    claimed: float = 0.0
    first: float = 0.0
    offered: float = 0.0
    sought: float = 0.0
