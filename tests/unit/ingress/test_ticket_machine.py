"""What holds of a ticket whatever holders, network and clock do."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from ingress.ticket import SUSPECT, Ticket
from schemas import errors
from schemas.frames import Frame, Kind, Op
from tests.unit.ingress import recorder
from tests.unit.ingress.recorder import START, Holder, Recorder, Said


@dataclass
class Player:
    """A holder with a network of its own: what it sent may come late, twice, or never."""

    holder: Holder
    sent: list[Frame] = field(default_factory=list)
    wire: list[Frame] = field(default_factory=list)
    text: bytes = b""
    asked: int = -1
    """The first frame that the ticket missed, when it said so last."""
    over: bool = False
    """It sent its last frame."""
    granted: bool = False
    """It was told GO, and neither lost the job nor was told to stop since."""
    stopped: bool = False

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)
        self.wire.append(frame)


class Tickets(RuleBasedStateMachine):
    players: Bundle[Player] = Bundle("players")

    def __init__(self) -> None:
        super().__init__()
        self.effects = Recorder()
        self.ticket: Ticket = recorder.ticket(self.effects, max_attempts=3)
        self.now = START
        self.known: list[Player] = []
        self.taken = b""
        self.final: tuple[object, ...] | None = None

    def player(self, name: str) -> Player:
        (found,) = [player for player in self.known if player.holder.name == name]
        return found

    def heed(self) -> None:
        """Have the players do what they were told, and check who was told to go."""
        for said in self.effects.drain():
            if not isinstance(said, Said):
                assert said[1] in (b"-NAK", b"+TERM")
                assert said[1] == b"-NAK" or self.ticket.done
                (lost,) = [p for p in self.known if p.holder.ack == said[0]]
                lost.granted = False
                continue
            player = self.player(said.holder)
            assert said.nonce == player.holder.nonce
            self.obey(player, said)

    def obey(self, player: Player, said: Said) -> None:
        if said.op == Op.GO:
            assert not player.stopped
            assert not [p for p in self.known if p.granted and p is not player]
            assert self.ticket.holder is not None
            assert self.ticket.holder.holder == player.holder.name
            player.granted = True
        elif said.op == Op.RESEND:
            assert isinstance(said.argument, int)
            player.asked = said.argument
            player.wire += [f for f in player.sent if f.seq >= said.argument]
        else:
            player.granted = False
            player.stopped = player.over = True
            if said.op == Op.GONE:
                assert self.ticket.done
                error = self.ticket.error
                assert bool(said.argument) == (error is not None and "attempts" in error.message)

    def deliver(self, player: Player, frame: Frame) -> None:
        tries = self.ticket.tries
        self.ticket.frame(frame, self.now)
        if self.ticket.holder is None:  # it failed, or fell silent
            for other in self.known:
                other.granted = False
        elif self.ticket.tries > tries:
            for other in self.known:
                other.granted = other is player
        self.heed()

    @rule(target=players)
    def a_delivery(self) -> Player:
        number = len(self.known) + 1
        player = Player(Holder(f"h{number}", number))
        self.known.append(player)
        self.deliver(player, player.holder.claim())
        return player

    @rule(player=players)
    def repeats_its_claim(self, player: Player) -> None:
        if not player.over:
            self.deliver(player, player.holder.claim())

    @rule(player=players, size=st.integers(0, 3))
    def says(self, player: Player, size: int) -> None:
        if player.over:
            return
        seq = len(player.sent)
        if not seq:
            player.send(player.holder.start())
        else:
            piece = f"{player.holder.name}:{seq} ".encode() * size
            player.text += piece
            player.send(player.holder.data(seq, piece))

    @rule(player=players, retryable=st.none() | st.booleans())
    def is_over(self, player: Player, retryable: bool | None) -> None:
        if player.over:
            return
        seq, holder = len(player.sent), player.holder
        player.over = True
        player.send(holder.end(seq) if retryable is None else holder.fail(seq, retryable=retryable))

    @rule(player=players, retryable=st.booleans())
    def has_not_kept_what_it_is_asked_for(self, player: Player, retryable: bool) -> None:
        if player.asked >= 0:
            self.deliver(player, player.holder.fail(player.asked, retryable=retryable))

    @rule(player=players)
    def is_alive(self, player: Player) -> None:
        self.deliver(player, player.holder.alive(len(player.sent)))

    @rule(player=players, index=st.integers(0, 30), twice=st.booleans())
    def a_frame_arrives(self, player: Player, index: int, twice: bool) -> None:
        if player.wire:
            frame = player.wire.pop(index % len(player.wire))
            if twice:
                player.wire.append(frame)
            self.deliver(player, frame)

    @rule(player=players)
    def all_its_frames_arrive(self, player: Player) -> None:
        wire, player.wire = player.wire, []
        for frame in wire:
            self.deliver(player, frame)

    @rule(player=players, index=st.integers(0, 30))
    def a_frame_is_lost(self, player: Player, index: int) -> None:
        if player.wire:
            player.wire.pop(index % len(player.wire))

    @rule(seconds=st.sampled_from([0.1, 0.6, SUSPECT, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(why=st.sampled_from(["silent", "disconnected"]))
    def is_revoked(self, why: str) -> None:
        holder = self.ticket.holder
        self.ticket.revoke(why, self.now)
        assert self.ticket.holder is None or self.ticket.done
        if holder is not None and self.ticket.holder is None:
            self.player(holder.holder).granted = False
        self.heed()

    @rule()
    def a_resend_is_asked_for(self) -> None:
        self.ticket.ask_resend(self.now)
        self.heed()

    @rule()
    def the_client_reads(self) -> None:
        self.taken += self.ticket.take()

    @precondition(lambda self: self.ticket.tries)
    @rule()
    def the_client_leaves(self) -> None:
        self.ticket.fail(errors.ClientGone("left"))
        self.heed()

    @invariant()
    def what_was_taken_is_the_beginning_of_one_attempt(self) -> None:
        if self.taken:
            assert [p for p in self.known if p.text.startswith(self.taken)]

    @invariant()
    def a_whole_answer_is_all_of_one_attempt(self) -> None:
        ticket = self.ticket
        if ticket.ended is not None:
            self.taken += ticket.take()
            assert any(
                p.text == self.taken and p.sent and p.sent[-1].kind == Kind.END for p in self.known
            )

    @invariant()
    def one_at_most_was_told_to_go(self) -> None:
        assert sum(player.granted for player in self.known) <= 1

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
    def what_is_buffered_is_counted(self) -> None:
        assert self.ticket.buffered == sum(map(len, self.ticket._pieces))


TestTickets = Tickets.TestCase
TestTickets.settings = settings(max_examples=100, stateful_step_count=40)
