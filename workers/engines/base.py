"""What the runner needs of an engine, and what an engine gets of the runner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import ServedModel


class EngineFault(Exception):
    """The engine did not answer as it should.

    `code`: one of schemas.errors.CODES. `retryable`: another attempt may succeed.
    `away`: the engine itself is in doubt, so that it must pass its check before the next job.
    `early`: it is still starting, so that this is no failure yet.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "engine_failed",
        retryable: bool = True,
        away: bool = False,
        early: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable
        self.away = away
        self.early = early


class Sink(Protocol):
    """Where an engine's answer goes. None of these blocks."""

    def start(self, status: int, content_type: str) -> None:
        """The upstream's head. At most once, before any data."""

    def data(self, chunk: bytes) -> None:
        """Answer bytes, verbatim; of an event stream only whole events."""

    def touch(self) -> None:
        """The engine made progress that has no bytes yet."""

    async def settle(self) -> None:
        """Wait until the broker connection has room: for answers of megabytes."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What an engine says it can do. `slots` are shared by its models."""

    slots: int
    models: tuple[ServedModel, ...]


class Engine(Protocol):
    """One engine. Every method may raise EngineFault, and nothing else."""

    name: str
    kind: str

    async def open(self) -> None:
        """Make clients; no I/O yet."""

    async def discover(self) -> Offer:
        """Ask the engine for its models and slots."""

    async def check(self) -> Offer | None:
        """Run a real small job: health pages stay green on an engine that hangs. Gives a better
        offer if the engine says more of its models now that one is loaded."""

    async def probe(self) -> bool:
        """Whether the engine's own loop still turns; cheap, asked while jobs are silent."""

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        """One attempt. Cancelled when nobody wants the answer: must free the slot then."""

    async def close(self) -> None: ...
