"""What holds of a ticket whatever holders, network and clock do."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from ingress.jobs.custody import SUSPECT
from ingress.jobs.ticket import Ticket
from schemas import errors
from schemas.frames import Frame, Op
from tests.unit.conftest import EXAMPLES
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import START, Holder, RecordedEffects, Said
from tests.unit.ingress.jobs.ticket_invariants import TicketInvariants

PICK = st.integers(0, 11)
ORDERS = st.sampled_from(
    ["as sent", "as sent", "as sent", "not yet", "backwards", "twice", "the last alone"]
)
WORLD = st.sampled_from(
    [
        *["nothing", "the client reads"] * 5,
        *["a delivery", "a delivery after silence", "revoked", "published anew"] * 2,
        *["a delivery to one who is deaf", "asked to resend", "the client leaves"],
    ]
)


@dataclass
class RemoteHolder:
    """A holder with a network of its own: what it sent may come late, twice, or never."""

    holder: Holder
    deaf: bool
    """It does not stop when told to: the word comes late."""
    sent: list[Frame] = field(default_factory=list)
    wire: list[Frame] = field(default_factory=list)
    text: bytes = b""
    """All that it said."""
    over: bool = False
    """It sent its last frame, or was told to stop."""
    granted: bool = False
    """It was told GO, and has not lost the job since."""
    asked: int = -1
    """The first frame that the ticket missed, when it said so last."""

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)
        self.wire.append(frame)


class TicketMachine(TicketInvariants):
    def __init__(self) -> None:
        super().__init__()
        self.effects = RecordedEffects()
        self.ticket: Ticket = recorder.ticket(self.effects, max_attempts=3)
        self.now = START
        self.remotes: list[RemoteHolder] = []
        self.taken = b""
        self.final: tuple[object, ...] | None = None
        self.delivered = 0
        self.former: set[int] = set()

    # What the world does

    @initialize()
    def the_first_delivery(self) -> None:
        self.a_delivery()

    def a_delivery(self, deaf: bool = False) -> None:
        """To a worker that claims it, and has its claim heard."""
        number = len(self.remotes) + 1
        self.delivered += 1
        edition = self.ticket.job.edition
        holder = Holder(f"h{number}", self.delivered, 1000 + number, edition)
        remote = RemoteHolder(holder, deaf)
        self.remotes.append(remote)
        self.deliver(remote, remote.holder.claim())

    # Each rule has something happen meanwhile: hypothesis leaves out some rules in each run.

    @rule(pick=PICK, pieces=st.integers(1, 3), order=ORDERS, meanwhile=WORLD)
    def speaks(self, pick: int, pieces: int, order: str, meanwhile: str) -> None:
        self.happens(meanwhile)
        remote = self.pick(pick)
        if not remote.over:
            self.speak(remote, pieces)
        self.arrive(remote, order)

    def speak(self, remote: RemoteHolder, pieces: int) -> None:
        if not remote.sent:
            remote.send(remote.holder.start())
        for _ in range(pieces):
            piece = f"{remote.holder.name}:{len(remote.sent)} ".encode()
            remote.text += piece
            remote.send(remote.holder.data(len(remote.sent), piece))

    @rule(pick=PICK, retryable=st.none() | st.booleans(), order=ORDERS, meanwhile=WORLD)
    def is_over(self, pick: int, retryable: bool | None, order: str, meanwhile: str) -> None:
        self.happens(meanwhile)
        remote = self.pick(pick)
        if not remote.over:
            remote.over = True
            self.end(remote, retryable)
        self.arrive(remote, order)

    def end(self, remote: RemoteHolder, retryable: bool | None) -> None:
        seq, holder = len(remote.sent), remote.holder
        last = holder.end(seq) if retryable is None else holder.fail(seq, retryable=retryable)
        remote.send(last)

    @rule(
        pick=PICK,
        what=st.sampled_from(["claim", "alive", "hole", "hole for good", "old"]),
        meanwhile=WORLD,
    )
    def says_again(self, pick: int, what: str, meanwhile: str) -> None:
        self.happens(meanwhile)
        remote = self.pick(pick)
        holder = remote.holder
        if what == "claim" and not remote.over:
            self.deliver(remote, holder.claim())
        elif what == "alive":
            self.deliver(remote, holder.alive(len(remote.sent)))
        elif what.startswith("hole") and remote.asked >= 0:  # it did not keep what is missing
            self.deliver(remote, holder.fail(remote.asked, retryable=what == "hole"))
        elif what == "old":
            for frame in remote.sent:
                self.deliver(remote, frame)

    def happens(self, what: str) -> None:
        match what:
            case "a delivery":
                self.a_delivery()
            case "a delivery to one who is deaf":
                self.a_delivery(deaf=True)
            case "a delivery after silence":
                self.now += SUSPECT
                self.a_delivery()
            case "published anew":
                if self.ticket.vanished(0, self.now):
                    self.delivered = 0
            case "revoked":
                self.ticket.revoke("disconnected", self.now)
            case "asked to resend":
                self.now += 1
                self.ticket.ask_resend(self.now)
            case "the client leaves" if len(self.remotes) > 2:
                self.ticket.fail(errors.ClientGone("left"))
            case "the client reads":
                self.taken += self.ticket.received.take()
        self.heed()

    def arrive(self, remote: RemoteHolder, order: str) -> None:
        if order == "not yet":
            return
        wire, remote.wire = remote.wire, []
        if order == "backwards":
            wire.reverse()
        elif order == "twice":
            wire = wire + wire
        elif order == "the last alone":
            wire = wire[-1:]
        for frame in wire:
            self.deliver(remote, frame)

    # What comes of it

    def pick(self, index: int) -> RemoteHolder:
        """The last that claimed, mostly, as it is the one that may hold the job."""
        return self.remotes[-1 - max(0, index - 8) % len(self.remotes)]

    def deliver(self, remote: RemoteHolder, frame: Frame) -> None:
        ticket = self.ticket
        before, last = ticket.holder, ticket.postings.newest.fence
        heard = before.heard if before is not None else self.now
        ticket.frame(frame, self.now)
        if ticket.holder is not None and ticket.holder is not before:
            assert before is None or self.now - heard >= SUSPECT
            assert frame.attempt > last
            assert remote.holder.edition == ticket.job.edition
            assert frame.nonce not in self.former
            self.former.add(frame.nonce)
        self.heed()

    def heed(self) -> None:
        """Have the players do what they were told, and check who was told to go."""
        holder = self.ticket.holder
        for remote in self.remotes:
            remote.granted = remote.granted and holder is not None and (
                holder.claim.holder == remote.holder.name
            )  # fmt: skip
        for said in self.effects.drain():
            if isinstance(said, Said):
                (remote,) = [p for p in self.remotes if p.holder.name == said.holder]
                self.obey(remote, said)
            else:
                self.check_verdict(said)
                assert said[0] in [p.holder.ack for p in self.remotes]

    def check_verdict(self, said: tuple[str, bytes]) -> None:
        assert said[1] == (b"+TERM" if self.ticket.done else b"-NAK")

    def obey(self, remote: RemoteHolder, said: Said) -> None:
        ticket = self.ticket
        assert said.nonce == remote.holder.nonce
        if said.op == Op.GO:
            assert ticket.received.error is None
            assert not [p for p in self.remotes if p.granted and p is not remote]
            assert ticket.holder is not None
            assert ticket.holder.claim.holder == remote.holder.name
            remote.granted = True
        elif said.op == Op.RESEND:
            remote.asked = said.first
            remote.wire += [f for f in remote.sent if f.seq >= said.first]
        else:
            over = ticket.done or remote.holder.edition != ticket.job.edition
            assert said.op != Op.GONE or over
            remote.granted = False
            remote.over = remote.over or not remote.deaf

    @invariant()
    def nothing_is_left_of_an_attempt_that_was_lost(self) -> None:
        ticket = self.ticket
        if ticket.holder is None and not ticket.done:
            received = ticket.received
            assert (received.head, received.buffered, ticket.times.first) == (None, 0, 0.0)

    @invariant()
    def one_at_most_was_told_to_go(self) -> None:
        assert sum(remote.granted for remote in self.remotes) <= 1


TestTickets = TicketMachine.TestCase
TestTickets.settings = settings(max_examples=3 * EXAMPLES, stateful_step_count=30)
