"""What holds of every ticket, whoever may answer it: for the state machines that try it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hypothesis.stateful import RuleBasedStateMachine, invariant

from ingress.jobs.ticket import Ticket
from schemas import errors
from schemas.frames import Frame, Kind
from tests.unit.ingress.jobs.recorder import RecordedEffects


class Attempt(Protocol):
    """`text`: all that it said of the answer. `sent`: its frames, whether they came or not."""

    text: bytes
    sent: list[Frame]


class TicketInvariants(RuleBasedStateMachine):
    """`taken`: what the client has. `final`: what became of the job, once it is over."""

    ticket: Ticket
    effects: RecordedEffects
    remotes: Sequence[Attempt]
    taken: bytes
    final: tuple[object, ...] | None

    @invariant()
    def what_was_taken_is_the_beginning_of_one_attempt(self) -> None:
        if self.taken:
            assert [p for p in self.remotes if p.text.startswith(self.taken)]

    @invariant()
    def a_whole_answer_is_all_of_one_attempt(self) -> None:
        if self.ticket.received.ended is not None:
            self.taken += self.ticket.received.take()
            whole = [p for p in self.remotes if p.sent and p.sent[-1].kind == Kind.END]
            assert self.taken in [p.text for p in whole]

    @invariant()
    def there_is_one_outcome_and_it_stays(self) -> None:
        ticket, received = self.ticket, self.ticket.received
        assert received.ended is None or received.error is None
        assert ticket.tries <= 3
        if ticket.done:
            ends = (received.ended, received.error, received.head)
            outcome = (*ends, ticket.holder, ticket.tries)
            assert self.final is None or outcome == self.final
            self.final = outcome

    @invariant()
    def a_job_past_its_last_attempt_is_kept_once(self) -> None:
        error = self.ticket.received.error
        dead = isinstance(error, errors.EngineFailed) and "attempts failed" in error.message
        assert len(self.effects.dead_letters) == dead

    @invariant()
    def what_is_buffered_is_counted(self) -> None:
        received = self.ticket.received
        assert received.buffered == sum(map(len, received._pieces))
