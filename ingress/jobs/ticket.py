"""One request in flight, and who may answer it. Pure.

The broker does not fence: a stale ack removes a job, a stale in_progress prolongs a lease. So the
ingress that took the request decides who holds it. This machine reads frames and the clock, and
acts through `Effects`; a task that waits for it listens.

::

    queued ──claim──▶ held ──end──▶ done
      ▲                │
      └─revoke / fail──┘   (before a byte was released to the client; after: done, with an error)

A fallback claims as a worker does, and is granted a job of the workers' queue only while it is
`wanted`. A hedged job has a copy for providers alone: until its holder, a worker, has a byte, who
holds the copy may win the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ingress.jobs.custody import Custody, Grant, Holder, Voice, decide
from ingress.jobs.resume import ResumableStream
from ingress.jobs.state import Postings, Received, Stream, Terms, Times
from schemas import errors
from schemas.errors import HeadraceError
from schemas.frames import Claim, End, Fail, Frame, Kind, Op, Start
from schemas.jobs import Job

_WINNING = frozenset({Kind.DATA, Kind.END})


class Effects(Voice, Stream, Protocol):
    """What a ticket does to the world."""

    def dead_letter(self, job: Job, error: str) -> None:
        """Keep a job past its last attempt as a dead letter, with its last error."""


class Ticket:
    """One job at its ingress; nothing of it changes but by what is called here.

    `tries`: attempts of workers. `wanted`: a provider may take it out of the workers' queue.
    `exhausted`: workers had their tries and failed like this, so that what is left is a provider.
    `declined`: why providers did not take it, when they were asked last.
    """

    def __init__(self, job: Job, body: bytes, terms: Terms, effects: Effects, now: float) -> None:
        self.body = body
        self.terms = terms
        self.times = Times(queued=now, posted=now, freed=now)
        self.postings = Postings(job, effects)
        self.custody = Custody(job.id, effects)
        self.received = Received(ResumableStream(job.endpoint) if terms.resumable else None)
        self.tries = 0
        self.wanted = False
        self.exhausted: HeadraceError | None = None
        self.declined: HeadraceError | None = None
        self._last_failure = ""
        self._effects = effects
        self._changed: Callable[[], None] = _nobody

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
    def node(self) -> str | None:
        """Where it is, or was last; None if that is a provider, or nowhere."""
        latest = self.custody.latest
        return None if latest is None or latest.by_provider else latest.node

    def listen(self, changed: Callable[[], None]) -> None:
        """`changed` is called when something happened that the responder may care for."""
        self._changed = changed

    # What holders say

    def frame(self, frame: Frame, now: float) -> bool:
        """One frame, from whomever. False if it is of one who has nothing to say here."""
        holder, hedge = self.custody.holder, self.custody.hedge
        if frame.kind == Kind.CLAIM:
            self._claimed(Claim.of(frame.body), frame, now)
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

    def _claimed(self, claim: Claim, frame: Frame, now: float) -> None:
        answer = decide(self, claim, frame.attempt, frame.nonce, now)
        if isinstance(answer, Grant):
            if (posting := self.postings.of(claim.edition)) is not None:
                posting.granted(frame.attempt)
            answer = self._grant(answer, Holder(claim, frame.nonce, now), now)
        self.custody.answer(claim, frame.nonce, answer)

    def _grant(self, grant: Grant, newcomer: Holder, now: float) -> Op:
        """The loss of a silent holder may leave the job to others, or be the end of it."""
        if grant is Grant.RACE:
            self.custody.race(newcomer)
            return Op.GO
        if (silent := self.custody.holder) is not None:
            self._lost(silent, f"{silent} fell silent", now)
            self.custody.stop(silent)
            spent = self.exhausted is not None and not newcomer.claim.by_provider
            if spent or self.done or self.custody.holder or self.received.resuming:
                return Op.GONE
        self._hold(newcomer, now)
        return Op.GO

    def _hold(self, holder: Holder, now: float) -> None:
        self.custody.hold(holder, now)
        self.received.paid = holder.claim.by_provider
        self.tries += not holder.claim.by_provider
        self.times.claimed = now
        self.wanted = False

    def _heard(self, holder: Holder, frame: Frame, now: float) -> None:
        if frame.seq == holder.due and holder.early is None and frame.kind != Kind.ALIVE:
            holder.due += 1
            self._apply(holder, frame, now)  # as nearly always
        elif frame.kind != Kind.ALIVE:
            self._apply_all(holder, holder.in_order(frame), now)
        elif frame.body is True and not self.times.first:
            self._begun(now)
        if frame.seq > holder.due:
            self.custody.ask_resend(now)

    def _apply_all(self, holder: Holder, frames: Iterable[Frame], now: float) -> None:
        for frame in frames:
            if holder is not self.custody.holder or self.received.done:
                return  # behind a failure nothing counts
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
                self.received.notes.update(frame.body)
        self._changed()

    def _begun(self, now: float) -> None:
        """The answer has begun; of one that is not streamed the holder only says so."""
        self.times.first = now
        self.custody.end_race()

    def _hedge_heard(self, hedge: Holder, frame: Frame, now: float) -> None:
        """What it says is kept; its first byte makes it the holder, and the worker is stopped."""
        hedge.heard = now
        if frame.kind == Kind.FAIL:
            self.custody.end_copy()
            self._note_refusal(Fail(*frame.body))
        elif frame.kind != Kind.ALIVE:
            hedge.keep(frame)
            if frame.kind in _WINNING:
                self._withdraw(now)
                self._adopt(hedge, now)

    def _adopt(self, hedge: Holder, now: float) -> None:
        """Who held the copy holds the job from now on."""
        self.custody.end_copy()
        self._hold(hedge, now)
        self._apply_all(hedge, hedge.catch_up(), now)
        if hedge.misses:
            self.ask_resend(now)

    def _failed(self, holder: Holder, fault: Fail, now: float) -> None:
        mistaken = fault.code == errors.ClientGone.code
        back = not fault.retryable and (mistaken or self._stood_in(holder))
        if holder.claim.by_provider and (fault.retryable or back):
            self._note_refusal(fault)
        if fault.retryable or back:
            self._lost(holder, fault.message, now)
            if back and not (self.done or self.exhausted or self.custody.holder):
                self._publish_again(now)
            return
        error = errors.from_code(fault.code, fault.message, source=holder.source)
        if self.received.resuming:
            why = f"{self.exhausted}; no provider could continue it: {fault.message}"
            error = errors.StreamBroken(why, source="fallback")
        self.received.error = error
        self.custody.end_race()

    def _stood_in(self, holder: Holder) -> bool:
        """Whether a provider that was asked beside a worker has it in that one's place, and has
        said nothing: then other workers may still take it."""
        copy = self.postings.copy
        copied = copy is not None and holder.claim.edition == copy.edition
        return copied and self.tries < self.terms.max_attempts and not self.times.first

    def _note_refusal(self, fault: Fail) -> None:
        """Not of one who gave the job up since nobody seemed to wait for it: this process stood
        still, or could not be heard. Its message went with it."""
        if fault.code != errors.ClientGone.code:
            self.declined = errors.from_code(fault.code, fault.message, source="fallback")

    # What its ingress finds

    def revoke(self, why: str, now: float) -> bool:
        """Take the lease back: the broker gives the job to the next holder at once. False if there
        is nobody to take it from."""
        holder = self.custody.holder
        if holder is None or self.done:
            return False
        self._lost(holder, f"{holder} was lost ({why})", now)
        self.custody.dismiss(holder, over=self.done or self.custody.holder is not None)
        return True

    def offer(self, now: float) -> None:
        """Nobody took it in time: providers are called, and one may have it."""
        self.wanted = True
        self.times.offered = now

    def move(self, now: float) -> None:
        """To providers alone, for good: what others have of it, or could take, is over."""
        self._withdraw(now)
        self.custody.end_race()
        self.wanted = False
        self.times.posted = now
        self.postings.move(self.received.begun)

    def refused(self, edition: int, error: HeadraceError) -> None:
        """The broker does not take an edition; without the copy of a hedge it goes on."""
        if edition == self.job.edition:
            self.fail(error)

    def sought(self, now: float) -> None:
        """Its message is looked for."""
        self.times.sought = now

    def vanished(self, sequence: int, now: float) -> bool:
        """The broker has no message there: whether it was this job's, which is published again."""
        missed = self.postings.newest.sequence == sequence
        if not missed or self.done or self.custody.holder is not None:
            return False
        self._publish_again(now)
        return True

    def ask_resend(self, now: float) -> None:
        """Have the holder repeat what did not arrive."""
        if not self.done:
            self.custody.ask_resend(now)

    def spare(self, now: float) -> None:
        """Forgive the holder's silence so far: it was this process that did not hear."""
        if self.custody.holder is not None:
            self.custody.holder.spare(now)

    def forgive(self, now: float) -> None:
        """As `spare`, and the broker's silence, too."""
        self.spare(now)
        self.times.posted = now

    def fail(self, error: HeadraceError) -> None:
        """End the request with `error`, and stop whoever works on it."""
        if self.done:
            return
        self.received.error = error
        if self.custody.holder is not None:
            self.custody.stop(self.custody.holder, Op.CANCEL)
        self.custody.end_race()
        self._changed()

    def give_up(self) -> None:
        """Nobody is left who could try. It must be `exhausted`."""
        if not self.received.resuming:
            self._effects.dead_letter(self.job, self._last_failure)
        self.received.error = self.exhausted
        self._changed()

    def close(self) -> None:
        """Nobody reads the answer any more: who works on it is stopped, and what still waits for a
        holder is taken back."""
        self.postings.delete_copy()
        if self.received.ended is None:
            self.fail(errors.ClientGone("the client left"))
            if self.custody.holder is None:
                self.postings.delete_newest()

    # What comes of it

    def _lost(self, holder: Holder, why: str, now: float) -> None:
        """The holder is no more: forget what the client has not seen, or break the stream."""
        self._forget(holder, now)
        if self.received.seen:
            message = f"{why}; the answer above is not complete, send the request again"
            self._break_off(holder, errors.StreamBroken(message, source=holder.source))
        elif self.custody.hedge is not None:
            self._adopt(self.custody.hedge, now)
        elif self.tries >= self.terms.max_attempts and not holder.claim.by_provider:
            message = f"{self.tries} attempts failed, the last one: {why}"
            self._last_failure = why
            self.exhausted = errors.EngineFailed(message, source=holder.source)
            if not self.terms.may_leave or self.declined is not None:
                self.give_up()
        self._changed()

    def _break_off(self, holder: Holder, error: HeadraceError) -> None:
        """The client has a part of it: a provider may go on from there, but not another's part."""
        able = self.terms.may_leave and not holder.claim.by_provider
        if able and self.received.break_off():
            self.exhausted = error
        else:
            self.received.error = error

    def _withdraw(self, now: float) -> None:
        """Take the job from its holder, if there is one, for good."""
        if (holder := self.custody.holder) is not None:
            self._forget(holder, now)
            self.custody.dismiss(holder, over=True)

    def _forget(self, holder: Holder, now: float) -> None:
        """What it said is gone, too, unless the client has it."""
        self.custody.forget(holder)
        self.times.freed = now
        if not self.received.seen:
            self.received.forget()
            self.times.first = 0.0

    def _publish_again(self, now: float) -> None:
        """Into the same lane: its message there went with a holder."""
        self.times.posted = now
        self.postings.publish_anew()


def _nobody() -> None:
    """Listens."""
