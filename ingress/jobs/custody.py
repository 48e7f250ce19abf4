"""Who holds a job, who races for it, who had it before, and who may have it next. Pure.

A claim names the edition of the job that the claimant was given, and the broker counts the
deliveries of each edition. A claim for an edition that is over is answered `GONE`. A claim for a
delivery that is older than a granted one is answered `DROP`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ingress.jobs.reorder import ReorderBuffer
from schemas import subjects
from schemas.frames import Claim, Frame, Op
from schemas.jetstream.words import NAK, TERM
from schemas.jobs import Job

if TYPE_CHECKING:
    from ingress.jobs.ticket import Ticket

SUSPECT = 1.5
"""Seconds of silence after which another may take over. A holder speaks twice a second."""
ASK_AGAIN = 0.5
"""Seconds between two requests to send again."""
MOST_LEFT = 8
"""How often those who lost a job leave it to others, who may be busy for long."""


class Voice(Protocol):
    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None:
        """A control message to a holder."""

    def verdict(self, ack: str, word: bytes) -> None:
        """Tell the broker, on behalf of a holder, what becomes of its delivery."""

    def others(self, job: Job, holders: AbstractSet[str]) -> bool:
        """Whether workers beside these may have the job."""


class Grant(Enum):
    """What a claim is granted."""

    HOLD = auto()
    """The job, in the place of a holder that is silent."""
    RACE = auto()
    """The right to work beside the worker that holds the job, until one of the two has a byte."""


class Holder:
    """A worker or a provider that was granted the job. `due`: the number of its next frame. Later
    frames wait in `early` until that one is here. `since`: when it got the job."""

    __slots__ = ("_asked", "claim", "due", "early", "heard", "nonce", "since")

    def __init__(self, claim: Claim, nonce: int, now: float) -> None:
        self.claim = claim
        self.nonce = nonce
        self.heard = self.since = now
        self.due = 0
        self.early: ReorderBuffer | None = None
        self._asked = 0.0

    def __str__(self) -> str:
        if self.claim.by_provider:
            return "the fallback"
        return f"the worker on {self.claim.node}"

    @property
    def source(self) -> str:
        """What clients are told as the source of its errors."""
        return "fallback" if self.claim.by_provider else "worker"

    @property
    def misses(self) -> bool:
        """Whether a frame is missing that later frames have overtaken."""
        return bool(self.early)

    def in_order(self, frame: Frame) -> Iterable[Frame]:
        """The frames that can be used now that this one is here: none if an earlier is missing."""
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
        """The kept frames that are due now."""
        while self.early and (frame := self.early.pop(self.due)) is not None:
            self.due += 1
            yield frame

    def is_silent(self, now: float) -> bool:
        return now - self.heard >= SUSPECT

    def spare(self, now: float) -> None:
        """Forgive the silence so far: this process did not hear what the holder said."""
        self.heard = now
        self._asked = 0.0

    def may_ask(self, now: float) -> bool:
        """Whether it is time to ask for missing frames. If so, this counts as having asked."""
        if now - self._asked < ASK_AGAIN:
            return False
        self._asked = now
        return True


class Tenure(NamedTuple):
    """A holder on `node` that had the job and lost it. Times are monotonic seconds. `until` is 0.0
    where another holder was faster: this one had the job until the other's first byte."""

    node: str
    since: float
    until: float
    by_provider: bool
    nonce: int = 0


class Custody:
    """`holder`: whose answer counts. `hedge`: a provider that has the copy of a hedged job, and may
    still win the job. `latest`: the claim that was granted last. `lost`: those who lost the job."""

    def __init__(self, job: str, voice: Voice) -> None:
        self.holder: Holder | None = None
        self.hedge: Holder | None = None
        self.latest: Claim | None = None
        self.lost: list[Tenure] = []
        self.raced: list[Tenure] = []
        """Those that had the copy, and did not win the job."""
        self._job = job
        self._voice = voice
        self._former: dict[int, str] = {}
        """Nonces of those who lost the job, and the holders that they belong to."""
        self.was_paid = False
        """Whether a provider had the job."""
        self._left = 0
        """How often one of those came again and was turned away."""
        self._on_hold: Callable[[], None] | None = None

    def listen(self, on_hold: Callable[[], None]) -> None:
        """Call `on_hold` whenever somebody gets the job."""
        self._on_hold = on_hold

    @property
    def at_provider(self) -> bool:
        return self.holder is not None and self.holder.claim.by_provider

    def is_held(self, now: float) -> bool:
        """Whether somebody who was heard lately holds the job."""
        return self.holder is not None and not self.holder.is_silent(now)

    def is_hedged(self, now: float) -> bool:
        """Whether a provider that was heard lately has the copy."""
        return self.hedge is not None and not self.hedge.is_silent(now)

    def is_granted(self, nonce: int) -> bool:
        if self.holder is not None and self.holder.nonce == nonce:
            return True
        return self.hedge is not None and self.hedge.nonce == nonce

    def is_former(self, nonce: int) -> bool:
        return nonce in self._former

    def leaves(self, job: Job, holder: str) -> bool:
        """Whether a worker that lost the job is to leave it to others, who have not tried yet."""
        lost = set(self._former.values())
        if self._left >= MOST_LEFT or holder not in lost or not self._voice.others(job, lost):
            return False
        self._left += 1
        return True

    def answer(self, claim: Claim, nonce: int, op: Op) -> None:
        if op is Op.GO and claim.swapped:  # the holder does not have the job yet
            op = Op.GIVE
        self._voice.say(claim.holder, op, self._job, nonce)

    def hold(self, holder: Holder, now: float) -> None:
        """Make `holder` the holder. There must be none."""
        self.holder, self.latest = holder, holder.claim
        self.was_paid = self.was_paid or holder.claim.by_provider
        holder.heard = now  # a hedge that is adopted may have been silent
        if self._on_hold is not None:
            self._on_hold()

    def race(self, newcomer: Holder) -> None:
        """Give the copy to `newcomer`. A provider that had it before is silent, and is stopped."""
        self._end_hedge(Op.DROP)
        self.hedge = newcomer

    def end_copy(self) -> None:
        """The race is over because its provider won the job."""
        self.hedge = None

    def fail_copy(self, now: float) -> None:
        """The race is over because its provider failed."""
        if self.hedge is not None:
            self.raced.append(_tenure(self.hedge, now))
            self.hedge = None

    def end_race(self) -> None:
        """The race is lost for the provider that has the copy, if there is one."""
        if self.hedge is not None:
            self._end_hedge(Op.GONE)

    def forget(self, holder: Holder, now: float) -> None:
        """`holder` has lost the job."""
        self._former[holder.nonce] = holder.claim.holder
        self.lost.append(_tenure(holder, now))
        self.holder = None

    def dismiss(self, holder: Holder, *, over: bool) -> None:
        """Tell a holder that it has lost the job, and the broker what to do with the message: drop
        it if it is `over`, otherwise give it to the next who asks."""
        self._voice.verdict(holder.claim.ack, TERM if over else NAK)
        self.stop(holder)

    def stop(self, holder: Holder, op: Op = Op.DROP) -> None:
        self._voice.say(holder.claim.holder, op, self._job, holder.nonce)

    def stop_again(self, nonce: int) -> None:
        """A former holder still works on the job: the message that told it to stop was lost."""
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
            self.raced.append(_tenure(hedge, 0.0))
            self.stop(hedge, op)


def _tenure(holder: Holder, until: float) -> Tenure:
    claim = holder.claim
    return Tenure(claim.node, holder.since, until, claim.by_provider, holder.nonce)


def exchanges(ticket: Ticket) -> bool:
    """Whether the job waits for a worker, and may have the message of another job. Not once a
    provider had it, or has a copy: its bookings are in the order of the messages."""
    custody, newest = ticket.custody, ticket.postings.newest
    free = custody.holder is None and custody.hedge is None and not custody.was_paid
    free = free and ticket.postings.copy is None and ticket.exhausted is None and not ticket.done
    return free and newest.lane != subjects.CLOUD and newest.sequence > 0


def carries(ticket: Ticket, claim: Claim, frame: Frame) -> bool:
    """Whether the claim may be for a job that waits, as it is one of a newer delivery."""
    newest, custody = ticket.postings.newest, ticket.custody
    known = custody.is_granted(frame.nonce) or custody.is_former(frame.nonce)
    return claim.edition == newest.edition and frame.attempt > newest.fence and not known


def is_over(ticket: Ticket, lost: Holder) -> bool:
    """Whether nobody may have the message that a lost holder had."""
    replaced = ticket.postings.of(lost.claim.edition) is None
    return replaced or ticket.done or ticket.custody.holder is not None


def stood_in(ticket: Ticket, holder: Holder) -> bool:
    """Whether the holder got the job by its copy, in the place of a worker, and has given nothing
    yet: then other workers may still take the job."""
    copy = ticket.postings.copy
    copied = copy is not None and holder.claim.edition == copy.edition
    return copied and ticket.tries < ticket.terms.max_attempts and not ticket.times.first


def decide(ticket: Ticket, claim: Claim, delivery: int, nonce: int, now: float) -> Grant | Op:
    """What to grant to a claim, or else what to answer. `delivery`: the broker's count."""
    if ticket.received.error is None and ticket.custody.is_granted(nonce):
        return Op.GO  # the first GO was lost; a holder whose answer is whole needs it to ack
    if ticket.done:
        return Op.GONE
    posting = ticket.postings.of(claim.edition)
    # Not GONE: the +TERM that follows it would take the message from its present holder.
    if ticket.custody.is_former(nonce) or (posting and delivery <= posting.fence):
        return Op.DROP
    if posting is None:
        return Op.GONE
    if posting is ticket.postings.copy:
        return _of_copy(ticket, claim, now)
    of = _of_provider if claim.by_provider else _of_worker
    return of(ticket, claim, posting.lane, now)


def _of_worker(ticket: Ticket, claim: Claim, lane: str, now: float) -> Grant | Op:
    if ticket.exhausted is not None or lane == subjects.CLOUD:
        return Op.GONE
    # The broker gives none of a node's jobs to others, so one of these has made up its claim.
    if ticket.custody.is_held(now) or not subjects.is_for(lane, claim.node):
        return Op.DROP
    return Op.LEAVE if ticket.custody.leaves(ticket.job, claim.holder) else Grant.HOLD


def _of_provider(ticket: Ticket, _: Claim, lane: str, now: float) -> Grant | Op:
    """The job is in the workers' lane, which providers may take from too, or in their own."""
    if ticket.custody.is_held(now):
        return Op.DROP
    if lane != subjects.CLOUD and not ticket.wanted:
        return Op.LEAVE  # also if it continues a stream: only what is moved to CLOUD is reserved so
    return Grant.HOLD


def _of_copy(ticket: Ticket, claim: Claim, now: float) -> Grant | Op:
    """The copy of a hedged job cannot continue an answer: it knows nothing of what the client
    has already."""
    custody = ticket.custody
    if ticket.received.resuming or not claim.by_provider:
        return Op.GONE
    if custody.hedge is not None:
        return Op.DROP if custody.is_hedged(now) else Grant.RACE
    if custody.holder is None or custody.holder.is_silent(now):
        return Grant.HOLD
    # The copy has won the job, and is delivered again.
    if custody.holder.claim.edition == claim.edition:
        return Op.DROP
    if custody.at_provider or ticket.times.first:
        return Op.GONE
    return Grant.RACE
