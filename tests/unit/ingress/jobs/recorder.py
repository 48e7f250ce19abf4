"""What a ticket says, recorded; and the frames of one holder."""

from __future__ import annotations

from typing import Any, NamedTuple

from ingress.jobs.ticket import Ticket
from schemas.frames import Frame, Kind, Op
from schemas.jobs import Job
from tests.unit import fakes

START = 10_000.0
"""The clock's time when a ticket is made."""


class Said(NamedTuple):
    holder: str
    op: Op
    nonce: int
    argument: object


class RecordedEffects:
    """The `Effects` of a ticket. Effects of all kinds are in `log`, in their order."""

    def __init__(self) -> None:
        self.log: list[Said | tuple[str, bytes]] = []
        self.buried: list[str] = []
        self.anew = 0

    def say(self, holder: str, op: Op, job: str, nonce: int, argument: object = None) -> None:
        assert job == fakes.job().id
        self.log.append(Said(holder, op, nonce, argument))

    def verdict(self, ack: str, word: bytes) -> None:
        self.log.append((ack, word))

    def again(self, job: Job) -> None:
        assert job.id == fakes.job().id
        self.anew += 1

    def bury(self, job: Job, error: str) -> None:
        assert job == fakes.job(stream=job.stream)
        self.buried.append(error)

    def drain(self) -> list[Said | tuple[str, bytes]]:
        """What was said since the last call."""
        found, self.log = self.log, []
        return found

    def ops(self, holder: str) -> list[Op]:
        return [said.op for said in self.log if isinstance(said, Said) and said.holder == holder]


class Holder:
    """One delivery at one worker: makes its frames."""

    def __init__(self, name: str, attempt: int, nonce: int = 0) -> None:
        self.name = name
        self.node = f"node-{name}"
        self.attempt = attempt
        self.nonce = nonce or 1000 + attempt
        self.ack = fakes.ack(attempt)

    def frame(self, kind: Kind, seq: int = 0, body: Any = None) -> Frame:
        return Frame(int(kind), self.attempt, self.nonce, seq, body)

    def claim(self) -> Frame:
        return self.frame(Kind.CLAIM, 0, (self.name, self.node, "e", self.ack))

    def start(self, seq: int = 0, status: int = 200, kind: str = "text/event-stream") -> Frame:
        return self.frame(Kind.START, seq, (status, kind))

    def data(self, seq: int, body: bytes) -> Frame:
        return self.frame(Kind.DATA, seq, body)

    def alive(self, seq: int) -> Frame:
        return self.frame(Kind.ALIVE, seq)

    def end(self, seq: int) -> Frame:
        return self.frame(Kind.END, seq, (3, 4, 0, 50))

    def fail(self, seq: int, code: str = "engine_failed", retryable: bool = True) -> Frame:
        return self.frame(Kind.FAIL, seq, (code, f"{self.name} failed", retryable))


class FallbackHolder(Holder):
    """One delivery at a fallback; of a job for providers alone if `copy`."""

    def __init__(self, name: str, attempt: int, nonce: int = 0, copy: bool = False) -> None:
        super().__init__(name, attempt, nonce or 2000 + attempt)
        self.node = ""
        if copy:
            self.ack = self.ack.replace("echo-i", "echo-f")


def ticket(effects: RecordedEffects, max_attempts: int = 3, stream: bool = True) -> Ticket:
    job = fakes.job(stream=stream)
    return Ticket(job, job.body, effects, START, max_attempts)


class TicketSetup:
    """A ticket with its effects and its clock."""

    def __init__(self, max_attempts: int = 3) -> None:
        self.effects = RecordedEffects()
        self.ticket = ticket(self.effects, max_attempts)
        self.now = START

    def hear(self, *frames: Frame, after: float = 0.0) -> None:
        self.now += after
        for frame in frames:
            self.ticket.frame(frame, self.now)

    def said(self) -> list[Said | tuple[str, bytes]]:
        return self.effects.drain()

    def held_by(self, holder: Holder) -> TicketSetup:
        self.hear(holder.claim())
        assert self.said() == [Said(holder.name, Op.GO, holder.nonce, None)]
        return self
