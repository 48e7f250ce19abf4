"""What the runner needs from an engine, and what it gives to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from schemas import bounds
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import ServedModel


class EngineFault(Exception):
    """The engine did not answer as it should. The message may quote the engine, and is cut here: it
    goes into frames, cards, logs and the headers of dead letters.

    `code`: one of schemas.errors.CODES. `retryable`: another attempt may succeed.
    `away`: the engine itself is in doubt and must pass its check before its next job.
    `early`: the engine is still starting, so this is not a failure yet.
    `hint`: what the operator may do about it, for the log; "" if nothing special is known.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "engine_failed",
        retryable: bool = True,
        away: bool = False,
        early: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = bounds.cut(message)
        self.code = code
        self.retryable = retryable
        self.away = away
        self.early = early
        self.hint = hint


class Sink(Protocol):
    """Where an engine's answer goes. None of these blocks."""

    def start(self, status: int, content_type: str) -> None:
        """The status and type of the answer; called at most once, before any data."""

    def data(self, chunk: bytes) -> None:
        """Bytes of the answer, unchanged; an event stream comes in whole events."""

    def touch(self) -> None:
        """The engine made progress, but has no bytes to show for it yet."""

    async def settle(self) -> None:
        """Wait until the broker connection has room; large answers need this."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What an engine says it can do. Its models share the `slots`."""

    slots: int
    models: tuple[ServedModel, ...]


@runtime_checkable
class SaysKind(Protocol):
    """An engine whose server may say what it is."""

    async def said_kind(self) -> str:
        """The kind that the server says it is; "" if it says none. Raises nothing."""


class Engine(Protocol):
    """One engine. Every method may raise EngineFault, and nothing else."""

    name: str
    kind: str

    async def open(self) -> None:
        """Create clients; do no I/O yet."""

    async def discover(self) -> Offer:
        """Ask the engine for its models and slots."""

    async def check(self) -> Offer | None:
        """Run a small real job, because health pages stay green on an engine that hangs. Return a
        new offer if the engine says more about its models once one is loaded."""

    async def probe(self) -> bool:
        """Whether the engine's own loop still runs; cheap, and called while jobs are silent."""

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        """Run one attempt. It is cancelled when nobody wants the answer, and must then stop."""

    async def close(self) -> None: ...
