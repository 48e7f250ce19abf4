"""One request in flight, and who may answer it. Pure.

The broker does not fence: a stale ack removes a job, a stale in_progress prolongs a lease. So the
ingress that took the request decides who holds its job. A ticket is a state machine: it reads
frames and the clock, acts through `Effects`, and calls a listener when something changed.

::

    queued ──claim──▶ held ──end──▶ done
      ▲                │
      └─revoke / fail──┘   (before a byte was released to the client; after: done, with an error)

A fallback is granted a job of the workers' queue only while the job is `wanted`. The provider that
has the copy of a hedged job may win it until the worker that holds it gives a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from ingress.jobs.custody import Custody, Grant, Holder, Voice, decide, is_over, stood_in
from ingress.jobs.fair import Turns
from ingress.jobs.spilled import Body
from ingress.jobs.state import Postings, Received, Stream, Terms, Times
from schemas import errors
from schemas.errors import HeadraceError
from schemas.frames import Claim, End, Fail, Frame, Kind, Op, Start
from schemas.jobs import Job
from schemas.traces import Trace

_WINNING = frozenset({Kind.DATA, Kind.END})


class Effects(Voice, Stream, Turns, Protocol):
    """What a ticket does to the world."""

    def dead_letter(self, job: Job, error: str) -> None:
        """Keep a job whose last attempt failed as a dead letter, with its last error."""


class Ticket:
    """One job at its ingress. Its state changes only through the methods here.

    `tries`: attempts of workers. `wanted`: a provider may take the job from the workers' queue.
    `broken`: what the client is told if nobody continues its stream. `exhausted`: the error of the
    workers' last try; only a provider is left. `declined`: why providers did not take it, if asked.
    """

    def __init__(
        self,
        job: Job,
        body: Body,
        terms: Terms,
        effects: Effects,
        now: float,
        trace: Trace | None = None,
    ) -> None:
        self.body: Body = body
        self.terms = terms
        self.times = Times(queued=now, posted=now, freed=now)
        self.postings = Postings(job, effects)
        self.custody = Custody(job.id, effects)
        self.received = Received(job.endpoint, terms.resumers.exist, terms.resumers.thoughts)
        self.tries, self.wanted = 0, False
        self.broken: HeadraceError | None = None
        self.exhausted: HeadraceError | None = None
        self.declined: HeadraceError | None = None
        self.traced = {} if trace is None else trace.of_job()
        """What the headers of its messages say of its trace."""
        self._last_failure, self._effects = "", effects
        self._changed: Callable[[], object] = object  # not a lambda: tests pickle tickets

    @property
    def job(self) -> Job:
        return self.postings.job

    @property
    def holder(self) -> Holder | None:
        return self.custody.holder

    @property
    def done(self) -> bool:
        return self.received.done

    @property
    def unconfirmed(self) -> bool:
        """Whether neither the broker nor a holder has said that it has the job."""
        return not self.postings.newest.sequence and self.custody.holder is None

    @property
    def node(self) -> str | None:
        """The node that has the job, or had it last; None if a provider or nobody had it."""
        latest = self.custody.latest
        return None if latest is None or latest.by_provider else latest.node

    @property
    def lane(self) -> str:
        """The lane in which it is published anew."""
        return self.terms.home_of(self.job.lane)

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever something happened that the responder may care for."""
        self._changed = changed

    def go_on(self, events: bytes) -> None:
        """Go on with a stream of which the client has these events already. For a job that is not
        published yet. Raises StreamInterrupted if that cannot be."""
        self.broken = errors.StreamInterrupted("the ingress was lost; send the request again")
        self.received.add(events)  # as if this process had received and passed them on
        self.received.take()
        if not self.received.break_off(self.terms.outline):
            raise self.broken
        self.postings.begin_at(self.received.begun)

    # What holders say

    def frame(self, frame: Frame, now: float) -> bool:
        """Take one frame. False if its sender neither holds the job nor claims it."""
        holder, hedge = self.custody.holder, self.custody.hedge
        if frame.kind == Kind.CLAIM:
            self.claimed(Claim.of(frame.body), frame.attempt, frame.nonce, now)
        elif holder is not None and frame.nonce == holder.nonce and not self.received.done:
            holder.heard = now
            self._heard(holder, frame, now)
        elif hedge is not None and frame.nonce == hedge.nonce:
            self._hedge_heard(hedge, frame, now)
        else:
            if frame.kind == Kind.ALIVE:
                self.custody.stop_again(frame.nonce)
            return False
        return True

    def claimed(self, claim: Claim, delivery: int, nonce: int, now: float) -> None:
        """Answer a claim. `delivery`: the broker's count."""
        answer = decide(self, claim, delivery, nonce, now)
        if isinstance(answer, Grant):
            if posting := self.postings.of(claim.edition):
                posting.granted(delivery)  # before `_grant`, which may publish another edition
            answer = self._grant(answer, Holder(claim, nonce, now), now)
        self.custody.answer(claim, nonce, answer)

    def _grant(self, grant: Grant, newcomer: Holder, now: float) -> Op:
        """Grant the job to `newcomer`. If that means the loss of a silent holder, the job may end,
        or go to somebody else: then the newcomer gets nothing."""
        if grant is Grant.RACE:
            self.custody.race(newcomer)
            return Op.GO
        if (silent := self.custody.holder) is not None:
            self._lost(silent, f"{silent} fell silent", now)
            self.custody.stop(silent)
            spent = self.exhausted is not None and not newcomer.claim.by_provider
            # The loss may have ended the job, or left it to the copy or to a later edition.
            if spent or self.received.resuming or is_over(self, newcomer):
                return Op.GONE
        self._hold(newcomer, now)
        return Op.GO

    def _hold(self, holder: Holder, now: float) -> None:
        self.custody.hold(holder, now)
        self._effects.served(self.job)
        self.received.paid = holder.claim.by_provider
        self.tries += not holder.claim.by_provider  # attempts of fallbacks are no tries
        self.times.claimed = now
        self.wanted = False

    def _heard(self, holder: Holder, frame: Frame, now: float) -> None:
        if frame.seq == holder.due and holder.early is None and frame.kind != Kind.ALIVE:
            holder.due += 1
            self._apply(holder, frame, now)  # nearly every frame comes in order, so no buffer
        elif frame.kind != Kind.ALIVE:
            self._apply_all(holder, holder.in_order(frame), now)
        elif frame.body is True and not self.times.first:
            self._begun(now)
        if frame.seq > holder.due:  # also an ALIVE: it has the number of the next frame
            self.custody.ask_resend(now)

    def _apply_all(self, holder: Holder, frames: Iterable[Frame], now: float) -> None:
        for frame in frames:
            if holder is not self.custody.holder or self.received.done:
                return  # frames after a failure do not count
            self._apply(holder, frame, now)

    def _apply(self, holder: Holder, frame: Frame, now: float) -> None:
        match frame.kind:
            case Kind.DATA:
                if not self.times.first:
                    self._begun(now)
                self.received.add(frame.body)
            case Kind.START:
                self.received.head = Start(*frame.body)
            case Kind.END:
                self.received.ended = End(*frame.body)
                self.custody.end_race()
            case Kind.FAIL:
                self._failed(holder, Fail(*frame.body), now)
            case Kind.NOTE:
                self.received.note(frame.body)
        self._changed()

    def _begun(self, now: float) -> None:
        """The answer has begun. If it is not streamed, only an ALIVE of the holder says so."""
        self.times.first = now
        self.custody.end_race()

    def _hedge_heard(self, hedge: Holder, frame: Frame, now: float) -> None:
        """Keep what the provider with the copy says. Its first byte makes it the holder."""
        hedge.heard = now
        if frame.kind == Kind.FAIL:
            self.custody.fail_copy(now)
            self._note_refusal(Fail(*frame.body))
        elif frame.kind != Kind.ALIVE:
            hedge.keep(frame)
            if frame.kind in _WINNING:
                self._withdraw(now)
                self._adopt(hedge, now)

    def _adopt(self, hedge: Holder, now: float) -> None:
        """The provider that has the copy holds the job from now on."""
        self.custody.end_copy()
        self._hold(hedge, now)
        self._apply_all(hedge, hedge.catch_up(), now)
        if hedge.misses:
            self.ask_resend(now)

    def _failed(self, holder: Holder, fault: Fail, now: float) -> None:
        # A holder says ClientGone if it heard nothing of this process; but the client is here.
        mistaken = fault.code == errors.ClientGone.code
        back = not fault.retryable and (mistaken or stood_in(self, holder))
        if holder.claim.by_provider and (fault.retryable or back):
            self._note_refusal(fault)
        if fault.retryable or back:
            self._lost(holder, fault.message, now)
            if back and not (self.done or self.exhausted or self.custody.holder):
                self.publish_again(now)
            return
        error = errors.from_code(fault.code, fault.message, source=holder.source)
        if self.broken is not None:
            others = "provider" if holder.claim.by_provider else "worker"
            why = f"{self.broken}; no {others} could continue it: {fault.message}"
            error = errors.StreamInterrupted(why, source=holder.source)
        self.received.error = error
        self.custody.end_race()

    def _note_refusal(self, fault: Fail) -> None:
        """Remember why a provider did not take the job. ClientGone is no such reason: the provider
        only thought that nobody waits, as this process stood still or could not be heard."""
        if fault.code != errors.ClientGone.code:
            self.declined = errors.from_code(fault.code, fault.message, source="fallback")

    # What its ingress finds

    def revoke(self, why: str, now: float) -> bool:
        """Take the job from its holder: the broker gives it to the next one at once. False if
        nobody holds it."""
        holder = self.custody.holder
        if holder is None or self.done:
            return False
        self._lost(holder, f"{holder} was lost ({why})", now)
        self.custody.dismiss(holder, over=is_over(self, holder))
        return True

    def offer(self, now: float) -> None:
        """No worker took the job in time: providers are called, and one of them may take it."""
        self.wanted = True
        self.times.offered = now

    def move(self, now: float) -> None:
        """Leave the job to providers alone, for good. All earlier holders and messages are over."""
        self._withdraw(now)
        self.custody.end_race()
        self.wanted = False
        self.times.posted = now
        self.postings.move(self.received.for_provider())

    def refused(self, edition: int, error: HeadraceError) -> None:
        """The broker does not take `edition`. Without a hedged job's copy the worker goes on."""
        if edition == self.job.edition:
            self.fail(error)

    def repeated(self, now: float) -> Job:
        """The job, which is published again as it is."""
        self.times.repeated = now
        return self.job

    def vanished(self, sequence: int, now: float) -> bool:
        """The broker has no message at `sequence`. True if it was this job's and nobody holds the
        job: then the job is published again."""
        if self.postings.newest.sequence != sequence or self.done or self.holder is not None:
            return False
        self.postings.newest.sequence = 0  # there may be another job now, which must stay
        self.publish_again(now)
        return True

    def ask_resend(self, now: float) -> None:
        """Have the holder repeat what did not arrive."""
        if not self.done:
            self.custody.ask_resend(now)

    def spare(self, now: float) -> None:
        """Forgive the holder's silence so far: this process did not hear what it said."""
        if self.custody.holder is not None:
            self.custody.holder.spare(now)

    def forgive(self, now: float) -> None:
        """Forgive the silence of the holder and of the broker."""
        self.spare(now)
        self.times.posted = now

    def fail(self, error: HeadraceError) -> None:
        """End the request with `error`, and stop those who work on it."""
        if self.done:
            return
        self.received.error = error
        if self.custody.holder is not None:
            self.custody.stop(self.custody.holder, Op.CANCEL)
        self.custody.end_race()
        self._changed()

    def give_up(self) -> None:
        """End the job with the workers' error, as nobody else can try. Needs `exhausted`."""
        if self.broken is None:
            self._effects.dead_letter(self.job, self._last_failure)
        self.received.error = self.exhausted
        self._changed()

    def close(self) -> None:
        """Nobody reads the answer any more: stop those who work on it, and delete the messages that
        still wait for a holder. The body is let go."""
        self.postings.delete_copy()
        if self.received.ended is None:
            self.fail(errors.ClientGone("the client left"))
            if self.custody.holder is None:  # else the holder ends the message (+TERM)
                self.postings.delete_newest()
        self.body = b""

    # What comes of it

    def _lost(self, holder: Holder, why: str, now: float) -> None:
        """The holder lost the job. If the client saw nothing, another may try; otherwise the stream
        is broken."""
        self._forget(holder, now)
        if self.received.seen and self.received.complete(self.terms.outline):
            self.custody.end_race()
        elif self.received.seen:
            message = f"{why}; the answer above is not complete, send the request again"
            self._break_off(holder, errors.StreamInterrupted(message, source=holder.source), now)
        elif self.custody.hedge is not None:
            self._adopt(self.custody.hedge, now)
        # Also a provider that had won the race with the last worker before it was lost itself.
        elif self.tries >= self.terms.max_attempts and self.exhausted is None:
            message = f"{self.tries} attempts failed, the last one: {why}"
            self._last_failure = why
            self.exhausted = errors.EngineFailed(message, source=holder.source)
            if not self.terms.may_leave or self.declined is not None:
                self.give_up()
        elif self.postings.send_unsent(self.lane):
            self.times.posted = now
        self._changed()

    def _break_off(self, holder: Holder, error: HeadraceError, now: float) -> None:
        """The client has a part of the answer. Workers may continue it, and providers that of
        workers: not that of another provider, as two would be paid for one answer."""
        workers = self.terms.resumers.workers and self.tries < self.terms.max_attempts
        able = workers or (self.terms.may_leave and self.terms.resumers.providers)
        if not able or holder.claim.by_provider or not self.received.break_off(self.terms.outline):
            self.received.error = error
            return
        self.broken = error
        if workers:
            self.times.posted = now
            self.postings.publish_anew(begun=self.received.begun, lane=self.lane)
        else:
            self.exhausted = error

    def _withdraw(self, now: float) -> None:
        """Take the job from its holder, if there is one, for good."""
        if (holder := self.custody.holder) is not None:
            self._forget(holder, now)
            self.custody.dismiss(holder, over=True)

    def _forget(self, holder: Holder, now: float) -> None:
        """Forget the holder, and what it said unless the client has a part of that."""
        self.custody.forget(holder, now)
        self._effects.lost(self.job, self.times.queued)
        self.times.freed = now
        if not self.received.seen:
            self.received.forget()
            self.times.first = 0.0

    def publish_again(self, now: float, lane: str = "") -> None:
        """Publish the job anew, as a holder took its message away, or it changes its lane."""
        self.times.posted = now
        self.postings.publish_anew(lane=lane or self.lane)

    def to_node(self, lane: str, now: float) -> None:
        """Have a pinned job wait in the lane of another node, and count there."""
        self.terms = replace(self.terms, lane=lane)
        self.publish_again(now, lane)
