"""What a runner is given: slots of what does jobs, and a source of jobs."""

from __future__ import annotations

from typing import Protocol

from schemas.frames import End
from schemas.jobs import Job
from workers.attempt import Attempt
from workers.engines.base import EngineFault
from workers.probes import Probed


class Runnable(Probed, Protocol):
    """What does jobs: an engine, for which the attempt is a `Sink`, or a fallback's providers. It
    is probed while its jobs are silent."""

    async def run(self, job: Job, body: bytes, attempt: Attempt, /) -> End:
        """Raises EngineFault, Withdrawn."""


class Slots(Protocol):
    """The slots of an engine, and what happens to the engine after a fault."""

    @property
    def engine(self) -> Runnable: ...

    def take(self) -> None: ...
    def free(self) -> int: ...
    def release(self) -> None: ...
    def suspect(self, fault: EngineFault) -> None: ...

    def answered(self, attempt: Attempt) -> None:
        """The engine has given a whole answer; told a moment later."""


class Source(Protocol):
    """Where jobs come from."""

    def fill(self) -> None:
        """Ask for a job for each free slot."""

    def finish(self, ack: str) -> None:
        """Ack a job; may ask for the next one in the same message. Raises BusError."""
