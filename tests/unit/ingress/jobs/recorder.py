"""What a ticket says, recorded; and the frames of one holder."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from ingress.jobs.state import Terms
from ingress.jobs.ticket import Ticket
from schemas.api.base import Outline
from schemas.frames import Frame, Kind, Op, Role
from schemas.jobs import Job
from tests.unit import fakes

START = 10_000.0
"""The clock's time when a ticket is made."""


class Said(NamedTuple):
    holder: str
    op: Op
    nonce: int
    first: int = 0


class RecordedEffects:
    """The `Effects` of a ticket. Effects of all kinds are in `log`, in their order."""

    def __init__(self) -> None:
        self.log: list[Said | tuple[str, bytes]] = []
        self.dead_letters: list[str] = []
        self.published: list[Job] = []
        self.deleted: list[int] = []
        self.slots = 0
        """How often the job got a slot, less how often it lost one."""
        self.workers: set[str] = set()
        """Those that serve the model, if the ticket is to know of any."""

    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None:
        assert job == fakes.job().id
        self.log.append(Said(holder, op, nonce, first))

    def verdict(self, ack: str, word: bytes) -> None:
        self.log.append((ack, word))

    def others(self, job: Job, holders: AbstractSet[str]) -> bool:
        return bool(self.workers - holders)

    def publish(self, job: Job) -> None:
        assert job.id == fakes.job().id
        self.published.append(job)

    def delete(self, sequence: int) -> None:
        self.deleted.append(sequence)

    def dead_letter(self, job: Job, error: str) -> None:
        assert job.id == fakes.job().id
        self.dead_letters.append(error)

    def served(self, job: Job) -> None:
        self.slots += 1

    def lost(self, job: Job, since: float) -> None:
        assert since == START
        self.slots -= 1

    def drain(self) -> list[Said | tuple[str, bytes]]:
        """What was said since the last call."""
        found, self.log = self.log, []
        return found

    def ops(self, holder: str) -> list[Op]:
        return [said.op for said in self.log if isinstance(said, Said) and said.holder == holder]


class Holder:
    """One delivery at one worker: makes its frames."""

    role = Role.WORKER
    begins = False
    """Its engine has the job already."""

    def __init__(self, name: str, attempt: int, nonce: int = 0, edition: int = 0) -> None:
        self.name = name
        self.edition = edition
        self.node = name.partition(".")[0] if "." in name else f"node-{name}"
        self.attempt = attempt
        self.nonce = nonce or 1000 + attempt
        self.ack = fakes.ack(attempt)

    def frame(self, kind: Kind, seq: int = 0, body: Any = None) -> Frame:
        return Frame(int(kind), self.attempt, self.nonce, seq, body)

    def claim(self) -> Frame:
        who = self.role.value, self.name, self.node, "e"
        body = (*who, self.ack, self.edition, self.begins)
        return self.frame(Kind.CLAIM, 0, body)

    def start(self, seq: int = 0, status: int = 200, kind: str = "text/event-stream") -> Frame:
        return self.frame(Kind.START, seq, (status, kind))

    def data(self, seq: int, body: bytes) -> Frame:
        return self.frame(Kind.DATA, seq, body)

    def alive(self, seq: int) -> Frame:
        return self.frame(Kind.ALIVE, seq)

    def end(self, seq: int, engine_ms: int = 50) -> Frame:
        return self.frame(Kind.END, seq, (3, 4, 0, engine_ms, 0, 0, 0))

    def fail(self, seq: int, code: str = "engine_failed", retryable: bool = True) -> Frame:
        return self.frame(Kind.FAIL, seq, (code, f"{self.name} failed", retryable))


class FallbackHolder(Holder):
    """One delivery at a fallback: of the workers' queue, or of an edition for providers alone."""

    role = Role.FALLBACK

    def __init__(self, name: str, attempt: int, nonce: int = 0, edition: int = 0) -> None:
        super().__init__(name, attempt, nonce or 2000 + attempt, edition)


def ticket(
    effects: RecordedEffects, key: str = "k1", stream: bool = True, lane: str = "i", **terms: Any
) -> Ticket:
    job = fakes.job(stream=stream, key=key, lane=lane)
    given = {"max_attempts": 3, "outline": Outline(continues=True), **terms}
    return Ticket(job, job.body, Terms(**given), effects, START)


class TicketSetup:
    """A ticket with its effects and its clock."""

    def __init__(self, **terms: Any) -> None:
        self.effects = RecordedEffects()
        self.ticket = ticket(self.effects, **terms)
        self.now = START

    def hear(self, *frames: Frame, after: float = 0.0) -> None:
        self.now += after
        for frame in frames:
            self.ticket.frame(frame, self.now)

    def said(self) -> list[Said | tuple[str, bytes]]:
        return self.effects.drain()

    def held_by(self, holder: Holder) -> TicketSetup:
        self.hear(holder.claim())
        assert self.said() == [Said(holder.name, Op.GO, holder.nonce)]
        return self
