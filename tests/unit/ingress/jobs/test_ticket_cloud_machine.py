"""What holds of a ticket that may leave the house, whatever workers, fallbacks and clocks do."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from ingress.jobs.custody import SUSPECT
from ingress.jobs.ticket import Ticket
from schemas import errors, subjects
from schemas.frames import Frame, Kind, Op, Role
from schemas.subjects import turn_of
from tests.unit import fakes
from tests.unit.conftest import EXAMPLES
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import START, FallbackHolder, Holder, RecordedEffects, Said
from tests.unit.ingress.jobs.ticket_invariants import TicketInvariants

PICK = st.integers(0, 11)
NEWEST = st.sampled_from([True, True, False])
ENDS = ("whole", "retryable", "refused", "orphaned")
WORLD = st.sampled_from(
    [
        *["speaks"] * 6,
        *["a fallback", "read"] * 3,
        *["a worker", "the broker answers", "is wanted", "is hedged", "claims again"] * 2,
        *["is alive", "is moved", "silence", "revoked", "asked", "the client leaves", *ENDS],
    ]
)
ORDERS = st.sampled_from(["as sent", "as sent", "as sent", "not yet", "backwards", "twice"])


@dataclass
class Stored:
    """A message of the stream. `answered`: the broker has said that it keeps it."""

    sequence: int
    edition: int
    lane: str
    delivered: int = 0
    answered: bool = False


@dataclass
class RemoteHolder:
    holder: Holder
    message: Stored
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
    reserved: bool = False
    """Of two reservations for a job that of the later delivery counts."""

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)
        self.wire.append(frame)


class CloudTicketMachine(TicketInvariants):
    """Each message that was ever published may be delivered at any time, as it may not be possible
    to delete it; the broker's answers to publishes come at any time, too."""

    def __init__(self) -> None:
        super().__init__()
        self.effects = RecordedEffects()
        self.ticket: Ticket = recorder.ticket(self.effects, may_leave=True)
        self.now = START
        self.remotes: list[RemoteHolder] = []
        self.stream = [Stored(1, 0, subjects.INTERACTIVE)]
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
            self.a_worker(deaf=False, newest=True)
        else:
            self.is_wanted()
            if how == "late":
                self.is_moved()
            self.a_fallback(deaf=False, newest=False)
        if hedged:
            self.is_hedged()
        self.heed()

    @rule(what=WORLD, pick=PICK, odd=st.booleans(), newest=NEWEST, order=ORDERS)
    def happens(self, what: str, pick: int, odd: bool, newest: bool, order: str) -> None:
        """One rule, as hypothesis leaves out some rules in each run."""
        match what:
            case "a worker":
                self.a_worker(odd, newest)
            case "a fallback":
                self.a_fallback(odd, newest)
            case "the broker answers":
                self.the_broker_answers(newest)
            case "speaks":
                self.speaks(pick, 1 + odd, order)
            case "is alive":
                self.is_alive(pick, odd)
            case "claims again":
                self.claims_again(pick)
            case "is wanted":
                self.is_wanted()
            case "is hedged":
                self.is_hedged()
            case "is moved":
                self.is_moved()
            case "silence":
                self.now += SUSPECT
            case "revoked":
                self.ticket.revoke("disconnected", self.now)
            case "read":
                self.taken += self.ticket.received.take()
            case "asked":
                self.now += 1
                self.ticket.ask_resend(self.now)
            case "the client leaves" if len(self.remotes) > 4:
                self.ticket.fail(errors.ClientGone("left"))
            case how if how in ENDS:
                self.is_over(pick, how, order)
        self.heed()

    def a_worker(self, deaf: bool, newest: bool) -> None:
        queue = [each for each in self.stream if each.lane == subjects.INTERACTIVE]
        made = Holder(f"w{len(self.remotes)}", 0, 1 + len(self.remotes))
        self.claims(RemoteHolder(made, queue[-1 if newest else 0], deaf))

    def a_fallback(self, deaf: bool, newest: bool) -> None:
        made = FallbackHolder(f"f{len(self.remotes)}", 0, 1 + len(self.remotes))
        self.claims(RemoteHolder(made, self.stream[-1 if newest else 0], deaf))

    def claims(self, remote: RemoteHolder) -> None:
        message, holder = remote.message, remote.holder
        message.delivered += 1
        holder.attempt, holder.edition = message.delivered, message.edition
        holder.ack = fakes.ack(message.delivered, message.sequence)
        # As `workers.runner` has it: who may not be the first waits until it may.
        first = (message.edition, message.delivered) == (0, 1)
        remote.reserved = holder.role is Role.FALLBACK and first
        self.remotes.append(remote)
        self.deliver(remote, holder.claim())

    def the_broker_answers(self, newest: bool) -> None:
        waiting = [each for each in self.stream if not each.answered]
        if waiting:
            message = waiting[-1 if newest else 0]
            message.answered = True
            self.ticket.postings.stored(message.edition, message.sequence)

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

    def is_alive(self, pick: int, begun: bool) -> None:
        remote = self.pick(pick)
        if not remote.over:
            seq = len(remote.sent)
            self.deliver(remote, remote.holder.frame(Kind.ALIVE, seq, begun or None))

    def claims_again(self, pick: int) -> None:
        remote = self.pick(pick)
        if not remote.over:
            self.deliver(remote, remote.holder.claim())

    # As `ingress.jobs.overflow` and `ingress.jobs.dispatch` do

    def is_wanted(self) -> None:
        ticket = self.ticket
        waits = ticket.holder is None and not ticket.done and ticket.exhausted is None
        if waits and ticket.job.lane == subjects.INTERACTIVE:
            ticket.offer(self.now)

    def is_hedged(self) -> None:
        """Also where a provider holds it, which `ingress.jobs.overflow` does not do."""
        ticket = self.ticket
        held = ticket.holder is not None and not ticket.times.first and not ticket.done
        if held and ticket.postings.copy is None:
            ticket.postings.publish_copy()

    def is_moved(self) -> None:
        ticket = self.ticket
        late = not (ticket.done or ticket.times.first or ticket.custody.at_provider)
        ours = ticket.job.lane == subjects.INTERACTIVE and not ticket.custody.is_hedged(self.now)
        if late and ours:
            ticket.move(self.now)

    def teardown(self) -> None:
        """Whatever happened, whoever comes next can bring it to its end."""
        ticket = self.ticket
        for _ in range(2):  # the holder, and who has the copy and takes its place
            ticket.revoke("silent", self.now)
        self.heed()
        if ticket.done:
            return
        assert (ticket.holder, ticket.custody.hedge) == (None, None)
        if ticket.exhausted is not None:
            self.is_moved()
            self.heed()
        (message,) = [each for each in self.stream if each.edition == ticket.job.edition]
        kind = FallbackHolder if message.lane == subjects.CLOUD else Holder
        self.claims(RemoteHolder(kind("last", 0, 1 + len(self.remotes)), message))
        last = self.remotes[-1]
        assert last.working
        self.speaks(0, 1, "as sent")
        self.is_over(0, "whole", "as sent")
        assert ticket.received.ended is not None
        assert ticket.received.take() == last.text

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
        wanted, message = self.ticket.wanted, remote.message
        self.ticket.frame(frame, self.now)
        if frame.kind == Kind.CLAIM and self.told(remote, Op.GO) and not remote.working:
            copy = self.ticket.postings.copy
            assert message.edition in (self.ticket.job.edition, copy and copy.edition)
            if remote.holder.role is Role.FALLBACK and message.lane == subjects.INTERACTIVE:
                assert wanted, "it was not to leave the house"
        self.heed()

    def told(self, remote: RemoteHolder, op: Op) -> bool:
        return op in self.effects.ops(remote.holder.name)

    def heed(self) -> None:
        """Have the broker and the players do what they were told."""
        for job in self.effects.published[len(self.stream) - 1 :]:
            self.stream.append(Stored(len(self.stream) + 1, job.edition, job.lane))
        for said in self.effects.drain():
            if isinstance(said, Said):
                (remote,) = [p for p in self.remotes if p.holder.name == said.holder]
                assert said.nonce == remote.holder.nonce
                self.obey(remote, said)
            else:
                ack, word = said
                assert ack in [p.holder.ack for p in self.remotes]
                copied = self.ticket.postings.copy is not None
                ours = self.ticket.job.lane == subjects.INTERACTIVE and not copied
                assert word == b"-NAK" or self.ticket.done or not ours

    def obey(self, remote: RemoteHolder, said: Said) -> None:
        if said.op == Op.GO:
            assert self.ticket.received.error is None
            remote.working = remote.granted = True
            remote.reserved = remote.holder.role is Role.FALLBACK
        elif said.op == Op.RESEND:
            remote.wire += [f for f in remote.sent if f.seq >= said.first]
        else:
            remote.working = False
            remote.over = remote.over or not remote.deaf
            remote.reserved = remote.reserved and remote.deaf

    @invariant()
    def who_works_on_it_holds_it_or_competes_for_it(self) -> None:
        holder, hedge = self.ticket.holder, self.ticket.custody.hedge
        named = {holder.claim.holder} if holder is not None else set()
        if hedge is not None:
            assert holder is not None
            assert not holder.claim.by_provider
            assert not self.ticket.times.first
            named.add(hedge.claim.holder)
        working = {p.holder.name for p in self.remotes if p.working and not p.over}
        assert working <= named
        if self.ticket.done:
            assert hedge is None

    @invariant()
    def who_was_refused_has_no_money_that_counts_before_the_holders(self) -> None:
        """The holder would not be paid."""
        if self.ticket.custody.at_provider and self.ticket.holder is not None:
            ack = self.ticket.holder.claim.ack
            refused = [p for p in self.remotes if p.reserved and not p.granted]
            assert not [p for p in refused if turn_of(p.holder.ack) > turn_of(ack)]

    @invariant()
    def it_is_known_where_the_broker_keeps_each_edition(self) -> None:
        """Whatever the order of its answers."""
        where = {each.edition: each.sequence for each in self.stream}
        for posting in (self.ticket.postings.newest, self.ticket.postings.copy):
            if posting is not None:
                assert posting.sequence in (0, where[posting.edition])


TestJourneys = CloudTicketMachine.TestCase
TestJourneys.settings = settings(max_examples=3 * EXAMPLES, stateful_step_count=50)


def test_who_had_all_attempts_of_workers_gets_none_behind_a_provider_that_won_and_is_lost() -> None:
    machine = CloudTicketMachine()
    machine.begins(how="worker", hedged=True)
    world = ["silence", "a worker"] * 2 + ["a fallback", "speaks"]
    while machine.ticket.holder is None or not machine.ticket.holder.claim.by_provider:
        what = world.pop(0) if world else "speaks"
        machine.happens(newest=True, odd=False, order="as sent", pick=0, what=what)
    assert machine.ticket.tries == machine.ticket.terms.max_attempts
    for what in ("silence", "a worker"):
        machine.happens(newest=True, odd=False, order="as sent", pick=0, what=what)
    assert machine.ticket.tries == machine.ticket.terms.max_attempts
    assert machine.ticket.holder is None
    assert machine.ticket.exhausted is not None
    assert not machine.ticket.done, "a provider may still have it"
