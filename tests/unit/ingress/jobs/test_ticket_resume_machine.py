"""Streams that workers continue: the client's text is always the beginning of the one text that all
of them would write, whatever holders, network and clock do."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import invariant, rule

from ingress.jobs.state import Resumers
from schemas.api import sse
from schemas.frames import Op
from tests.unit.conftest import EXAMPLES
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import Holder
from tests.unit.ingress.jobs.test_ticket_machine import ORDERS, PICK, RemoteHolder, TicketMachine

WORDS = 12


def chunk(holder: Holder, delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse.dump({"id": holder.name, "choices": [choice]})


class ResumedTicketMachine(TicketMachine):
    """Each holder writes the words from where its edition of the job begins."""

    def __init__(self) -> None:
        super().__init__()
        self.ticket = recorder.ticket(self.effects, max_attempts=3, resumers=Resumers(workers=True))
        self.said: dict[int, int] = {}
        """By nonce: the number of the holder's next word."""

    def a_delivery(self, deaf: bool = False) -> None:
        begun = self.ticket.job.begun
        super().a_delivery(deaf)
        self.said[self.remotes[-1].holder.nonce] = len(begun.text.split()) if begun else 0

    def speak(self, remote: RemoteHolder, pieces: int) -> None:
        holder = remote.holder
        if not remote.sent:
            remote.send(holder.start())
            remote.send(holder.data(1, chunk(holder, {"role": "assistant", "content": ""})))
        for _ in range(pieces):
            number = self.said[holder.nonce]
            if number < WORDS:
                self.said[holder.nonce] += 1
                word = chunk(holder, {"content": f"w{number} "})
                remote.send(holder.data(len(remote.sent), word))

    def end(self, remote: RemoteHolder, retryable: bool | None) -> None:
        if retryable is None:
            self.speak(remote, WORDS)
            last = chunk(remote.holder, {}, "stop") + sse.DONE
            remote.send(remote.holder.data(len(remote.sent), last))
        super().end(remote, retryable)

    @rule(pick=PICK, order=ORDERS)
    def the_message_of_an_older_edition_comes_again(self, pick: int, order: str) -> None:
        """The broker delivers it before it hears that the message was deleted."""
        before, edition = self.ticket.holder, self.ticket.job.edition
        number = len(self.remotes) + 1
        holder = Holder(f"h{number}", self.delivered + 1, 1000 + number, edition - 1)
        if edition:
            remote = RemoteHolder(holder, deaf=False, over=True)
            self.remotes.append(remote)
            self.said[holder.nonce] = 0
            self.ticket.frame(holder.claim(), self.now)
            assert self.effects.ops(holder.name) == [Op.GONE]
            assert self.ticket.holder is before
            self.heed()

    def check_verdict(self, said: tuple[str, bytes]) -> None:
        """A message whose stream broke is over: a later edition goes on."""

    @invariant()
    def what_was_taken_is_the_beginning_of_one_attempt(self) -> None:
        events = list(sse.objects(self.taken))
        deltas = [event["choices"][0]["delta"] for event in events]
        text = "".join(delta.get("content") or "" for delta in deltas)
        assert text == "".join(f"w{number} " for number in range(len(text.split())))
        assert sum("role" in delta for delta in deltas) == bool(events)
        assert len({event["id"] for event in events}) == bool(events)
        assert self.taken.count(sse.DONE) <= 1

    @invariant()
    def a_whole_answer_is_all_of_one_attempt(self) -> None:
        if self.ticket.received.ended is not None:
            self.taken += self.ticket.received.take()
            assert f"w{WORDS - 1} ".encode() in self.taken
            assert self.taken.endswith(sse.DONE)

    @invariant()
    def nothing_is_left_of_an_attempt_that_was_lost(self) -> None:
        if not self.ticket.received.resuming:
            super().nothing_is_left_of_an_attempt_that_was_lost()


TestResumedTickets = ResumedTicketMachine.TestCase
TestResumedTickets.settings = settings(max_examples=3 * EXAMPLES, stateful_step_count=30)
