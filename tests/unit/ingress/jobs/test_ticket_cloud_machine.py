"""What holds of a ticket that may leave the house, whatever workers, fallbacks and clocks do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingress.jobs.ticket import SUSPECT, Ticket
from schemas import errors, subjects
from schemas.frames import Frame, Kind, Op
from tests.unit import fakes
from tests.unit.conftest import EXAMPLES
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import START, FallbackHolder, Holder, RecordedEffects, Said

PICK = st.integers(0, 11)
ENDS = ("whole", "retryable", "refused", "orphaned")
ORDERS = st.sampled_from(["as sent", "as sent", "as sent", "not yet", "backwards", "twice"])


@dataclass
class RemoteHolder:
    holder: Holder
    copy: bool = False
    deaf: bool = False
    """It does not stop when told to: the word comes late."""
    sent: list[Frame] = field(default_factory=list)
    wire: list[Frame] = field(default_factory=list)
    text: bytes = b""
    over: bool = False
    """It sent its last frame, or was told to stop."""
    working: bool = False
    """It was told GO, and was not told to stop since."""
    granted: bool = False
    """It was told GO once."""
    turn: tuple[int, int] = (0, 0)
    """The stream's sequence and the delivery: of two reservations for the job the higher counts."""
    reserved: bool = False

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)
        self.wire.append(frame)


class CloudTicketMachine(RuleBasedStateMachine):
    """Messages of the stream: sequence 1 is the job in the workers' queue until it is published
    anew, `copies` are those for providers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.effects = RecordedEffects()
        self.ticket: Ticket = recorder.ticket(self.effects, max_attempts=3)
        self.ticket.may_leave = True
        self.now = START
        self.remotes: list[RemoteHolder] = []
        self.deliveries = {1: 0}
        self.queued = 1
        self.copies: list[int] = []
        self.taken = b""
        self.final: tuple[object, ...] | None = None

    # What the world does

    @initialize(
        how=st.sampled_from(["worker", "worker", "fallback", "fallback", "late"]),
        hedged=st.booleans(),
    )
    def begins(self, how: str, hedged: bool) -> None:
        """`late`: the fallback that was called has it, and it is moved before it claims."""
        if how == "worker":
            self.a_worker(deaf=False)
        else:
            self.is_wanted()
            if how == "late":
                self.is_moved()
            self.a_fallback(deaf=False)
        if hedged:
            self.is_hedged()

    @rule(deaf=st.booleans())
    def a_worker(self, deaf: bool) -> None:
        name = f"w{len(self.remotes)}"
        self.claims(RemoteHolder(Holder(name, 0, 1 + len(self.remotes)), deaf=deaf), self.queued)

    @rule(deaf=st.booleans())
    def a_fallback(self, deaf: bool) -> None:
        name = f"f{len(self.remotes)}"
        self.claims(
            RemoteHolder(FallbackHolder(name, 0, 1 + len(self.remotes)), deaf=deaf), self.queued
        )

    @precondition(lambda self: self.copies)
    @rule(deaf=st.booleans(), newest=st.booleans())
    def a_copy(self, deaf: bool, newest: bool) -> None:
        name = f"c{len(self.remotes)}"
        sequence = self.copies[-1 if newest else 0]
        made = FallbackHolder(name, 0, 1 + len(self.remotes), copy=True)
        self.claims(RemoteHolder(made, copy=True, deaf=deaf), sequence)

    def claims(self, remote: RemoteHolder, sequence: int) -> None:
        self.deliveries[sequence] += 1
        holder, count = remote.holder, self.deliveries[sequence]
        lane = "echo-f" if remote.copy else "echo-i"
        holder.attempt, holder.ack = count, fakes.ack(count, sequence).replace("echo-i", lane)
        remote.turn = sequence, count
        # As `workers.runner` has it: who may not be the first waits until it may.
        remote.reserved = not holder.node and remote.turn == (1, 1)
        self.remotes.append(remote)
        self.deliver(remote, holder.claim())

    @rule(pick=PICK, pieces=st.integers(1, 2), order=ORDERS)
    def speaks(self, pick: int, pieces: int, order: str) -> None:
        remote = self.pick(pick)
        if not remote.over:
            if not remote.sent:
                remote.send(remote.holder.start())
            for _ in range(pieces):
                piece = f"{remote.holder.name}:{len(remote.sent)} ".encode()
                remote.text += piece
                remote.send(remote.holder.data(len(remote.sent), piece))
        self.arrive(remote, order)

    @rule(pick=PICK, how=st.sampled_from(ENDS), order=ORDERS)
    def is_over(self, pick: int, how: str, order: str) -> None:
        remote = self.pick(pick)
        seq, holder = len(remote.sent), remote.holder
        if not remote.over:
            remote.over = True
            if how == "whole":
                remote.send(holder.end(seq))
            else:
                code = "client_gone" if how == "orphaned" else "engine_failed"
                remote.send(holder.fail(seq, code, retryable=how == "retryable"))
        self.arrive(remote, order)

    @rule(pick=PICK, begun=st.booleans())
    def is_alive(self, pick: int, begun: bool) -> None:
        remote = self.pick(pick)
        if not remote.over:
            seq = len(remote.sent)
            self.deliver(remote, remote.holder.frame(Kind.ALIVE, seq, begun or None))

    @rule(pick=PICK)
    def repeats_its_claim(self, pick: int) -> None:
        remote = self.pick(pick)
        if not remote.over:
            self.deliver(remote, remote.holder.claim())

    @rule(how=st.sampled_from(["silence", "revoked", "read", "read", "asked"]))
    def time_passes(self, how: str) -> None:
        match how:
            case "silence":
                self.now += SUSPECT
            case "revoked":
                self.ticket.revoke("disconnected", self.now)
            case "read":
                self.taken += self.ticket.take()
            case "asked":
                self.now += 1
                self.ticket.ask_resend(self.now)
        self.heed()

    # As `ingress.jobs.overflow` and `ingress.jobs.dispatch` do

    @precondition(lambda self: self.ticket.holder is None and not self.ticket.done)
    @rule()
    def is_wanted(self) -> None:
        if self.ticket.job.lane == subjects.INTERACTIVE and self.ticket.exhausted is None:
            self.ticket.wanted = self.now

    @precondition(lambda self: self.ticket.holder is not None and not self.ticket.hedged)
    @rule()
    def is_hedged(self) -> None:
        """Also where a provider holds it, which `ingress.jobs.overflow` does not do."""
        ticket = self.ticket
        if ticket.holder is not None and not ticket.times.first and not ticket.done:
            ticket.hedged = True
            self.copies.append(self.published())

    @precondition(lambda self: self.ticket.job.lane == subjects.INTERACTIVE)
    @rule()
    def is_moved(self) -> None:
        ticket = self.ticket
        if ticket.done or ticket.times.first or ticket.in_cloud or ticket.rivalled(self.now):
            return
        ticket.withdraw(self.now)
        ticket.job = replace(ticket.job, lane=subjects.CLOUD)
        ticket.renew()
        self.copies.append(self.published())
        self.heed()

    def published(self) -> int:
        """The sequence of one more message."""
        sequence = max(self.deliveries) + 1
        self.deliveries[sequence] = 0
        return sequence

    @precondition(lambda self: len(self.remotes) > 3)
    @rule()
    def the_client_leaves(self) -> None:
        self.ticket.fail(errors.ClientGone("left"))
        self.heed()

    def teardown(self) -> None:
        """Whatever happened, whoever comes next can bring it to its end."""
        ticket = self.ticket
        for _ in range(2):  # the holder, and a rival that takes its place
            ticket.revoke("silent", self.now)
        self.heed()
        if ticket.done:
            return
        assert (ticket.holder, ticket.rival) == (None, None)
        if ticket.exhausted is not None and ticket.job.lane == subjects.INTERACTIVE:
            self.is_moved()
        if ticket.job.lane == subjects.CLOUD:
            self.a_copy(deaf=False, newest=True)
        else:
            self.a_worker(deaf=False)
        last = self.remotes[-1]
        assert last.working
        self.speaks(0, 1, "as sent")
        self.is_over(0, "whole", "as sent")
        assert ticket.ended is not None
        assert ticket.take() == last.text

    # What comes of it

    def pick(self, index: int) -> RemoteHolder:
        """One of the last that claimed, mostly."""
        return self.remotes[-1 - max(0, index - 5) % len(self.remotes)]

    def arrive(self, remote: RemoteHolder, order: str) -> None:
        if order == "not yet":
            return
        wire, remote.wire = remote.wire, []
        if order == "backwards":
            wire.reverse()
        for frame in wire * (2 if order == "twice" else 1):
            self.deliver(remote, frame)

    def deliver(self, remote: RemoteHolder, frame: Frame) -> None:
        wanted = self.ticket.wanted
        self.ticket.frame(frame, self.now)
        went = frame.kind == Kind.CLAIM and self.told(remote, Op.GO)
        if went and not remote.holder.node and not remote.copy and not remote.working:
            assert wanted, "it was not to leave the house"
            assert self.ticket.job.lane == subjects.INTERACTIVE, "its copy is for them"
        self.heed()

    def told(self, remote: RemoteHolder, op: Op) -> bool:
        return op in self.effects.ops(remote.holder.name)

    def heed(self) -> None:
        """Have the broker and the players do what they were told."""
        if self.effects.anew:
            self.effects.anew = 0
            self.queued = self.published()
            self.ticket.renew()
        for said in self.effects.drain():
            if isinstance(said, Said):
                (remote,) = [p for p in self.remotes if p.holder.name == said.holder]
                assert said.nonce == remote.holder.nonce
                self.obey(remote, said)
            else:
                ack, word = said
                assert ack in [p.holder.ack for p in self.remotes]
                ours = self.ticket.job.lane == subjects.INTERACTIVE and not self.ticket.hedged
                assert word == b"-NAK" or self.ticket.done or not ours

    def obey(self, remote: RemoteHolder, said: Said) -> None:
        if said.op == Op.GO:
            assert self.ticket.error is None
            remote.working = remote.granted = True
            remote.reserved = not remote.holder.node
        elif said.op == Op.RESEND:
            assert isinstance(said.argument, int)
            remote.wire += [f for f in remote.sent if f.seq >= said.argument]
        else:
            remote.working = False
            remote.over = remote.over or not remote.deaf
            remote.reserved = remote.reserved and remote.deaf

    @invariant()
    def who_works_on_it_holds_it_or_competes_for_it(self) -> None:
        ticket = self.ticket
        named = {ticket.holder.holder} if ticket.holder is not None else set()
        if ticket.rival is not None:
            assert ticket.holder is not None
            assert ticket.holder.node
            assert not ticket.times.first
            named.add(ticket.rival.claim.holder)
        working = {p.holder.name for p in self.remotes if p.working and not p.over}
        assert working <= named
        if ticket.done:
            assert ticket.rival is None

    @invariant()
    def who_was_refused_has_no_money_that_counts_before_the_holders(self) -> None:
        """The holder would not be paid."""
        if self.ticket.in_cloud and self.ticket.holder is not None:
            held = [p for p in self.remotes if p.holder.ack == self.ticket.holder.ack]
            refused = [p for p in self.remotes if p.reserved and not p.granted]
            assert not [p for p in refused if p.turn > held[0].turn]

    @invariant()
    def what_was_taken_is_the_beginning_of_one_attempt(self) -> None:
        if self.taken:
            assert [p for p in self.remotes if p.text.startswith(self.taken)]

    @invariant()
    def a_whole_answer_is_all_of_one_attempt(self) -> None:
        if self.ticket.ended is not None:
            self.taken += self.ticket.take()
            whole = [p for p in self.remotes if p.sent and p.sent[-1].kind == Kind.END]
            assert self.taken in [p.text for p in whole]

    @invariant()
    def there_is_one_outcome_and_it_stays(self) -> None:
        ticket = self.ticket
        assert ticket.ended is None or ticket.error is None
        assert ticket.tries <= 3
        if ticket.done:
            outcome = (ticket.ended, ticket.error, ticket.holder, ticket.head, ticket.tries)
            assert self.final is None or outcome == self.final
            self.final = outcome

    @invariant()
    def it_is_buried_once_and_only_after_its_tries(self) -> None:
        error = self.ticket.error
        dead = isinstance(error, errors.EngineFailed) and "attempts failed" in error.message
        assert len(self.effects.buried) == dead

    @invariant()
    def what_is_buffered_is_counted(self) -> None:
        assert self.ticket.buffered == sum(map(len, self.ticket._pieces))


TestJourneys = CloudTicketMachine.TestCase
TestJourneys.settings = settings(max_examples=3 * EXAMPLES, stateful_step_count=30)
