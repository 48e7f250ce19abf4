"""Who holds a job, who races for it, who had it before; and who may. Pure.

A claim names the edition of the job that its holder was given, and each edition counts its
deliveries. So a claim for an edition that is over is told `GONE`, one for an earlier delivery than
one that was granted `DROP`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from ingress.jobs.reorder import ReorderBuffer
from schemas import subjects
from schemas.frames import Claim, Frame, Op
from schemas.jetstream.words import NAK, TERM

if TYPE_CHECKING:
    from ingress.jobs.ticket import Ticket

SUSPECT = 1.5
"""Seconds of silence after which another may take over; a holder speaks twice a second."""
ASK_AGAIN = 0.5
"""Seconds between two requests to send again."""


class Voice(Protocol):
    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None:
        """A control message to a holder."""

    def verdict(self, ack: str, word: bytes) -> None:
        """Tell the broker what becomes of a delivery, in its holder's place."""


class Grant(Enum):
    """What a claim is granted."""

    HOLD = auto()
    """The job, in the place of a holder that is silent."""
    RACE = auto()
    """To work on it beside the worker that holds it, until one of them has a byte."""


class Holder:
    """One who was told to go. `due`: the seq of its frame that comes next; those behind it wait in
    `early` until it is here."""

    __slots__ = ("_asked", "claim", "due", "early", "heard", "nonce")

    def __init__(self, claim: Claim, nonce: int, now: float) -> None:
        self.claim = claim
        self.nonce = nonce
        self.heard = now
        self.due = 0
        self.early: ReorderBuffer | None = None
        self._asked = 0.0

    def __str__(self) -> str:
        if self.claim.by_provider:
            return "the fallback"
        return f"the worker on {self.claim.node}"

    @property
    def source(self) -> str:
        """Who produces its errors, as clients are told."""
        return "fallback" if self.claim.by_provider else "worker"

    @property
    def misses(self) -> bool:
        """Whether frames are here that came after one that is not."""
        return bool(self.early)

    def in_order(self, frame: Frame) -> Iterable[Frame]:
        """The frames that are due with this one: none if an earlier one is missing."""
        if frame.seq != self.due:
            self.keep(frame)
            return ()
        self.due += 1
        return (frame, *self.catch_up()) if self.early else (frame,)

    def keep(self, frame: Frame) -> None:
        if frame.seq >= self.due:
            self.early = self.early or ReorderBuffer()
            self.early.put(frame)

    def catch_up(self) -> Iterator[Frame]:
        """Frames that are kept, and due now."""
        while self.early and (frame := self.early.pop(self.due)) is not None:
            self.due += 1
            yield frame

    def is_silent(self, now: float) -> bool:
        return now - self.heard >= SUSPECT

    def spare(self, now: float) -> None:
        """Forgive the silence so far: it was this process that did not hear."""
        self.heard = now
        self._asked = 0.0

    def may_ask(self, now: float) -> bool:
        """Whether it is time to ask for what did not arrive; from then on it was asked."""
        if now - self._asked < ASK_AGAIN:
            return False
        self._asked = now
        return True


class Custody:
    """`holder`: who may answer. `hedge`: a provider that has the copy of a hedged job, and may
    still win it. `latest`: who was granted the job last."""

    def __init__(self, job: str, voice: Voice) -> None:
        self.holder: Holder | None = None
        self.hedge: Holder | None = None
        self.latest: Claim | None = None
        self._job = job
        self._voice = voice
        self._former: dict[int, str] = {}

    @property
    def at_provider(self) -> bool:
        return self.holder is not None and self.holder.claim.by_provider

    def is_held(self, now: float) -> bool:
        """By one who was heard lately."""
        return self.holder is not None and not self.holder.is_silent(now)

    def is_hedged(self, now: float) -> bool:
        """By one who was heard lately."""
        return self.hedge is not None and not self.hedge.is_silent(now)

    def is_granted(self, nonce: int) -> bool:
        if self.holder is not None and self.holder.nonce == nonce:
            return True
        return self.hedge is not None and self.hedge.nonce == nonce

    def is_former(self, nonce: int) -> bool:
        return nonce in self._former

    def answer(self, claim: Claim, nonce: int, op: Op) -> None:
        self._voice.say(claim.holder, op, self._job, nonce)

    def hold(self, holder: Holder, now: float) -> None:
        """In the place of none."""
        self.holder, self.latest = holder, holder.claim
        holder.heard = now

    def race(self, newcomer: Holder) -> None:
        """It has the copy from now on, in the place of one that is silent."""
        self._end_hedge(Op.DROP)
        self.hedge = newcomer

    def end_copy(self) -> None:
        """Who has the copy holds the job now, or has failed."""
        self.hedge = None

    def end_race(self) -> None:
        """Who has the copy has lost, if anybody has."""
        if self.hedge is not None:
            self._end_hedge(Op.GONE)

    def forget(self, holder: Holder) -> None:
        """It does not hold the job any more."""
        self._former[holder.nonce] = holder.claim.holder
        self.holder = None

    def dismiss(self, holder: Holder, *, over: bool) -> None:
        """Tell one that lost the job, and the broker: whether the message is `over`, or is to go to
        the next who asks."""
        self._voice.verdict(holder.claim.ack, TERM if over else NAK)
        self.stop(holder)

    def stop(self, holder: Holder, op: Op = Op.DROP) -> None:
        self._voice.say(holder.claim.holder, op, self._job, holder.nonce)

    def stop_again(self, nonce: int) -> None:
        """Somebody works on without the job: the word to stop was lost, if it ever had it."""
        if former := self._former.get(nonce):
            self._voice.say(former, Op.DROP, self._job, nonce)

    def ask_resend(self, now: float) -> None:
        """Have the holder repeat what did not arrive."""
        holder = self.holder
        if holder is not None and holder.may_ask(now):
            self._voice.say(holder.claim.holder, Op.RESEND, self._job, holder.nonce, holder.due)

    def _end_hedge(self, op: Op) -> None:
        hedge, self.hedge = self.hedge, None
        if hedge is not None:
            self._former[hedge.nonce] = hedge.claim.holder
            self.stop(hedge, op)


def decide(ticket: Ticket, claim: Claim, delivery: int, nonce: int, now: float) -> Grant | Op:
    """A grant, or the answer to one who is granted nothing new. `delivery`: the broker's count."""
    if ticket.received.error is None and ticket.custody.is_granted(nonce):
        return Op.GO  # it did not hear the first one; once its answer is whole, it may ack
    if ticket.done:
        return Op.GONE
    posting = ticket.postings.of(claim.edition)
    if ticket.custody.is_former(nonce) or (posting and delivery <= posting.fence):
        return Op.DROP
    if posting is None:
        return Op.GONE
    if posting is ticket.postings.copy:
        return _of_copy(ticket, claim, now)
    of = _of_provider if claim.by_provider else _of_worker
    return of(ticket, posting.lane, now)


def _of_worker(ticket: Ticket, lane: str, now: float) -> Grant | Op:
    if ticket.exhausted is not None or lane == subjects.CLOUD:
        return Op.GONE
    return Op.DROP if ticket.custody.is_held(now) else Grant.HOLD


def _of_provider(ticket: Ticket, lane: str, now: float) -> Grant | Op:
    """For a job that workers could take as well, or one for providers alone."""
    if lane != subjects.CLOUD and ticket.received.resuming:
        return Op.GONE  # it would begin anew
    if ticket.custody.is_held(now):
        return Op.DROP
    if lane != subjects.CLOUD and not ticket.wanted:
        return Op.LEAVE
    return Grant.HOLD


def _of_copy(ticket: Ticket, claim: Claim, now: float) -> Grant | Op:
    """For the copy of a hedged job, which knows nothing of what the client has."""
    custody = ticket.custody
    if ticket.received.resuming or not claim.by_provider:
        return Op.GONE
    if custody.hedge is not None:
        return Op.DROP if custody.is_hedged(now) else Grant.RACE
    if custody.holder is None or custody.holder.is_silent(now):
        return Grant.HOLD
    if custody.holder.claim.edition == claim.edition:
        return Op.DROP
    if custody.at_provider or ticket.times.first:
        return Op.GONE
    return Grant.RACE
