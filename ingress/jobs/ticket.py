"""One request in flight, and the judge of who may answer it.

The broker does not fence: a stale ack removes a job, a stale in_progress prolongs a lease. So the
ingress that took the request decides who holds it. This module is pure: it reads frames and the
clock, and acts through `Effects`.

::

    queued ──claim──▶ held ──end──▶ done
      ▲                │
      └─revoke / fail──┘   (before a byte was released to the client; after: done, with an error)

A fallback claims as a worker does, and is granted a job only while it is `wanted`. In a hedged job
it is the holder's rival until one of them has the first byte.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ingress.jobs.effects import Effects, Times
from ingress.jobs.hedge import Rival
from ingress.jobs.reorder import Parked
from ingress.jobs.resume import ResumableStream
from schemas import errors, metrics, subjects
from schemas.errors import HeadraceError
from schemas.frames import Claim, End, Fail, Frame, Kind, Op, Start
from schemas.jobs import Job

SUSPECT = 1.5
"""Seconds of silence after which another may take over; a holder speaks twice a second."""
ASK_AGAIN = 0.5
"""Seconds between two requests to resend."""


class Ticket:
    """State of one job at its ingress. The responder reads `head`, `take`, `ended`, `error`."""

    def __init__(
        self, job: Job, body: bytes, effects: Effects, now: float, max_attempts: int
    ) -> None:
        self.job = job
        self.body = body
        self.edition = 0
        self.times = Times(queued=now, freed=now, posted=now)
        self.sequence = 0
        self.holder: Claim | None = None
        self.node = ""
        self.attempt = 0
        self.tries = 0
        self.head: Start | None = None
        self.ended: End | None = None
        self.error: HeadraceError | None = None
        self.buffered = 0
        self.notes: dict[str, str] = {}
        self.wanted = 0.0
        """Since when (monotonic) a provider may take it out of the queue; 0.0: it may not."""
        self.may_leave = False
        """Whether a provider may take it once no worker does."""
        self.exhausted: HeadraceError | None = None
        """Workers had their tries and failed like this: what is left is a provider."""
        self.hedge = 0.0
        """Seconds that a worker has for the first byte before a provider is asked, too."""
        self.hedged = False
        self.offered = 0
        """Sequence of the copy of the job that is for providers alone."""
        self.declined: HeadraceError | None = None
        """Why the providers did not take it, when they were asked last."""
        self.rival: Rival | None = None
        self.splice: ResumableStream | None = None
        """Keeps what the client has of a stream that a provider may continue."""
        self._effects = effects
        self._max = max_attempts
        self._nonce = 0
        self._next = 0
        self._turn = (0, 0)
        self._former: dict[int, str] = {}
        self._parked = Parked()
        self._pieces: deque[bytes] = deque()
        self._released = False
        self._epitaph = ""
        self._waiter: asyncio.Future[None] | None = None

    @property
    def done(self) -> bool:
        return self.ended is not None or self.error is not None

    def changed(self) -> asyncio.Future[None]:
        """Done once something happens that the responder may care for."""
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    async def change(self) -> None:
        await self.changed()

    async def whole(self) -> None:
        """Wait for the end; then `error` or `head`, `take` and `ended` are set."""
        while not self.done:
            await self.change()

    def take(self) -> bytes:
        """What came since the last call. From now on the attempt cannot be repeated."""
        if not self._pieces:
            return b""
        self._released = True
        self.buffered = 0
        if len(self._pieces) == 1:
            return self._pieces.popleft()
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found

    def frame(self, frame: Frame, now: float) -> None:
        """One frame, from whomever."""
        if frame.kind == Kind.CLAIM:
            self._claim(frame, now)
        elif self.holder is None or frame.nonce != self._nonce or self.done:
            if self.rival is not None and frame.nonce == self.rival.nonce:
                self._compete(self.rival, frame, now)
            else:
                self._fenced(frame)
        else:
            self.times.heard = now
            self._ordered(frame, now)

    def revoke(self, why: str, now: float) -> None:
        """Take the lease back: the broker gives the job to the next holder at once."""
        if self.holder is None or self.done:
            return
        metrics.REVOKED.labels(why).inc()
        holder, nonce = self.holder, self._nonce
        self._lost(f"{_whose(holder)} was lost ({why})", now)
        over = self.done or self.holder is not None
        self._effects.verdict(holder.ack, b"+TERM" if over else b"-NAK")
        self._effects.say(holder.holder, Op.DROP, self.job.id, nonce)

    def withdraw(self, now: float) -> None:
        """Take the job from whoever has it, for good: a copy of it is for providers alone."""
        if self.holder is not None:
            holder, nonce = self.holder, self._nonce
            self._forget(now)
            self._effects.verdict(holder.ack, b"+TERM")
            self._effects.say(holder.holder, Op.DROP, self.job.id, nonce)
        self.wanted = 0.0
        self._dismiss()

    def ask_resend(self, now: float) -> None:
        """Have the holder repeat what did not arrive."""
        if self.holder is not None and not self.done and now - self.times.asked >= ASK_AGAIN:
            self.times.asked = now
            self._effects.say(self.holder.holder, Op.RESEND, self.job.id, self._nonce, self._next)

    def spare(self, now: float) -> None:
        """Forgive the silence so far: it was this process that did not hear."""
        self.times.heard = now
        self.times.asked = 0.0

    def renew(self) -> None:
        """The job is published anew, so the broker counts its deliveries from 1 again."""
        self.edition += 1
        self.attempt, self._turn = 0, (0, 0)

    def fail(self, error: HeadraceError) -> None:
        """End the request with `error`, and stop whoever works on it."""
        if self.done:
            return
        self.error = error
        if self.holder is not None:
            self._effects.say(self.holder.holder, Op.CANCEL, self.job.id, self._nonce)
        self._dismiss()
        self.nudge()

    @property
    def torn(self) -> bool:
        """Whether the stream broke, and the rest of it is for a provider."""
        return self.splice is not None and self.splice.broken

    @property
    def in_cloud(self) -> bool:
        """Whether a provider holds it."""
        return self.holder is not None and not self.holder.node

    @property
    def owed(self) -> bool:
        """Whether there is text of a provider's stream that the client has not got: it pays for
        it, so it is to have it before it hears of any error."""
        head = self.head
        streams = head is not None and head.status == 200
        return streams and self.in_cloud and self.job.stream and self.buffered > 0

    def rivalled(self, now: float) -> bool:
        """Whether a provider works on it beside the holder, and was heard lately."""
        return self.rival is not None and now - self.rival.heard < SUSPECT

    def _compete(self, rival: Rival, frame: Frame, now: float) -> None:
        """A frame of the rival: its first byte makes it the holder, and the worker is stopped."""
        if frame.kind == Kind.FAIL:
            self.rival = None
            self._note_refusal(Fail(*frame.body))
        elif rival.hear(frame, now) and not self.done:
            if self.holder is not None:
                holder, nonce = self.holder, self._nonce
                self._forget(now)
                self._effects.verdict(holder.ack, b"+TERM")
                self._effects.say(holder.holder, Op.DROP, self.job.id, nonce)
            self._adopt(rival, now)

    def _adopt(self, rival: Rival, now: float) -> None:
        """The rival is the holder from now on."""
        self.rival = None
        self._hold(rival.claim, rival.nonce, now)
        for frame in rival.frames:
            self._ordered(frame, now)

    def _dismiss(self) -> None:
        """The race is over, and the rival has lost it."""
        rival, self.rival = self.rival, None
        if rival is not None:
            self._former[rival.nonce] = rival.claim.holder
            self._effects.say(rival.claim.holder, Op.GONE, self.job.id, rival.nonce)

    def _fenced(self, frame: Frame) -> None:
        """Of one who does not hold the job; if it still works on it, the word to stop was lost."""
        metrics.FENCED.inc()
        if frame.kind == Kind.ALIVE and (former := self._former.get(frame.nonce)):
            self._effects.say(former, Op.DROP, self.job.id, frame.nonce)

    def _claim(self, frame: Frame, now: float) -> None:
        claim = Claim(*frame.body)
        if self.error is not None:
            self._answer(claim, Op.GONE, frame.nonce, self._epitaph)
        elif frame.nonce == self._nonce and self.holder is not None:
            self._answer(claim, Op.GO, frame.nonce)
        elif self.done:
            self._answer(claim, Op.GONE, frame.nonce)
        elif not claim.node:
            self._cloud_claim(claim, frame, now)
        elif self.exhausted is not None or self.job.lane == subjects.CLOUD:
            self._answer(claim, Op.GONE, frame.nonce)
        elif (
            frame.attempt <= self.attempt
            or frame.nonce in self._former
            or (self.holder is not None and now - self.times.heard < SUSPECT)
        ):
            self._answer(claim, Op.DROP, frame.nonce)
        else:
            self._fence(frame.attempt)
            self._grant(claim, frame, now)

    def _cloud_claim(self, claim: Claim, frame: Frame, now: float) -> None:
        """Of a fallback: for a job that workers could take as well, or for the copy of one."""
        copy = subjects.lane_of(claim.ack) == subjects.CLOUD
        turn = subjects.turn_of(claim.ack)  # of several copies, if it was hedged and then moved
        stale = turn <= self._turn if copy else frame.attempt <= self.attempt
        held = self.holder is not None and now - self.times.heard < SUSPECT
        if self.rival is not None and frame.nonce == self.rival.nonce:
            self._answer(claim, Op.GO, frame.nonce)
        elif frame.nonce in self._former or stale:
            self._answer(claim, Op.DROP, frame.nonce)
        elif (copy and not self._copied) or (self.torn and not self._goes_on(turn)):
            self._answer(claim, Op.GONE, frame.nonce)
        elif copy and (self.rival is not None or (held and self._open_race)):
            self._compete_too(claim, frame, turn, now)
        elif held:
            self._answer(claim, Op.GONE if copy and not self.in_cloud else Op.DROP, frame.nonce)
        elif not (copy or self.wanted):
            self._answer(claim, Op.LEAVE, frame.nonce)
        else:
            if copy:
                self._turn = turn
            else:
                self._fence(frame.attempt)
            self._grant(claim, frame, now)

    @property
    def _copied(self) -> bool:
        """Whether it was published for providers alone. Who claims such a copy of another job has
        made it up."""
        return self.hedged or self.job.lane == subjects.CLOUD

    def _fence(self, attempt: int) -> None:
        """Deliveries up to this one are over. Each delivery counts one more, and some are never
        heard of; but one who claims with a huge count must not lock out those that come after."""
        self.attempt = min(attempt, self.attempt + 1)

    @property
    def _open_race(self) -> bool:
        return self.hedged and not self.in_cloud and not self.times.first

    def _goes_on(self, turn: tuple[int, int]) -> bool:
        """Whether that message says what the client has: the copy of a hedge does not."""
        return self.job.lane == subjects.CLOUD and turn[0] != self.offered

    def _compete_too(self, claim: Claim, frame: Frame, turn: tuple[int, int], now: float) -> None:
        """The hedged copy's holder; another one's place is taken only once that is silent."""
        if self.rival is not None:
            if self.rivalled(now):
                self._answer(claim, Op.DROP, frame.nonce)
                return
            self._former[self.rival.nonce] = self.rival.claim.holder
            self._answer(self.rival.claim, Op.DROP, self.rival.nonce)
        self._turn = turn
        self.rival = Rival(claim, frame.nonce, now)
        self._answer(claim, Op.GO, frame.nonce)

    def _grant(self, claim: Claim, frame: Frame, now: float) -> None:
        if self.holder is not None:
            holder, nonce = self.holder, self._nonce
            self._lost(f"{_whose(holder)} fell silent", now)
            self._effects.say(holder.holder, Op.DROP, self.job.id, nonce)
            spent = self.torn or (claim.node and self.exhausted is not None)
            if self.done or self.holder is not None or spent:  # or the rival has it now
                self._answer(claim, Op.GONE, frame.nonce, self._epitaph)
                return
        self._hold(claim, frame.nonce, now)
        if claim.node:
            self.tries += 1
        self._answer(claim, Op.GO, frame.nonce)

    def _hold(self, claim: Claim, nonce: int, now: float) -> None:
        self.holder, self.node, self._nonce = claim, claim.node, nonce
        self.times.claimed = self.times.heard = now
        self.wanted = 0.0
        self._next = 0
        self._parked.clear()

    def _answer(self, claim: Claim, op: Op, nonce: int, argument: object = None) -> None:
        self._effects.say(claim.holder, op, self.job.id, nonce, argument)

    def _ordered(self, frame: Frame, now: float) -> None:
        if frame.kind == Kind.ALIVE:
            if frame.body is True and not self.times.first:
                self._first(now)
            if frame.seq > self._next:
                self.ask_resend(now)
        elif frame.seq == self._next:
            self._apply(frame, now)
            while self._parked.frames and not self.done:
                if (parked := self._parked.pop(self._next)) is None:
                    break
                self._apply(parked, now)
        elif frame.seq > self._next:
            self._parked.put(frame)
            self.ask_resend(now)

    def _apply(self, frame: Frame, now: float) -> None:
        self._next = frame.seq + 1
        match frame.kind:
            case Kind.DATA:
                if not self.times.first:
                    self._first(now)
                piece = frame.body if self.splice is None else self.splice.add(frame.body)
                self._pieces.append(piece)
                self.buffered += len(piece)
            case Kind.START:
                self.head = Start(*frame.body)
            case Kind.END:
                self.ended = End(*frame.body)
                self._dismiss()
            case Kind.FAIL:
                self._failed(Fail(*frame.body), now)
            case Kind.NOTE:
                self.notes.update(frame.body)
        self.nudge()

    def _first(self, now: float) -> None:
        """The answer has begun; of one that is not streamed the holder only says so."""
        self.times.first = now
        self._dismiss()

    def _failed(self, fault: Fail, now: float) -> None:
        source = "fallback" if self.in_cloud else "worker"
        back = not fault.retryable and (self._stood_in or _mistaken(fault))
        if self.in_cloud and (fault.retryable or back):
            self._note_refusal(fault)
        if fault.retryable or back:
            self._lost(fault.message, now)
            if back and not (self.done or self.exhausted or self.holder):
                self._effects.again(self.job)
        elif not self.done:
            self.error = self._untaken(fault) if self.torn else _error(fault, source)
            self._dismiss()

    def _note_refusal(self, fault: Fail) -> None:
        if not _mistaken(fault):
            self.declined = _error(fault, "fallback")

    @property
    def _stood_in(self) -> bool:
        """Whether a provider that was asked beside a worker has it in that one's place, and has
        said nothing: then other workers may still take it."""
        if self.holder is None or subjects.lane_of(self.holder.ack) != subjects.CLOUD:
            return False
        theirs = self.hedged and self.job.lane != subjects.CLOUD
        return theirs and self.tries < self._max and not self.times.first

    def _untaken(self, fault: Fail) -> HeadraceError:
        """A provider that was to continue a stream did not."""
        why = f"{self.exhausted}; no provider could continue it: {fault.message}"
        return errors.StreamBroken(why, source="fallback")

    def _lost(self, why: str, now: float) -> None:
        """The holder is no more: forget what the client has not seen, or break the stream."""
        cloud = self.in_cloud
        source = "fallback" if cloud else "worker"
        self._forget(now)
        if self._released:
            message = f"{why}; the answer above is not complete, send the request again"
            self._break(errors.StreamBroken(message, source=source), cloud)
        elif self.rival is not None:
            self._adopt(self.rival, now)
        elif self.tries >= self._max and not cloud:
            message = f"{self.tries} attempts failed, the last one: {why}"
            self._epitaph = why
            self.exhausted = errors.EngineFailed(message, source=source)
            if not self.may_leave or self.declined is not None:
                self.give_up()
        self.nudge()

    def _break(self, error: HeadraceError, cloud: bool) -> None:
        """The client has a part of it: a provider may go on from there, but not another's part."""
        torn = self.splice is not None and self.may_leave and not cloud and self.splice.break_off()
        if torn:
            self.exhausted = error
        else:
            self.error = error

    def give_up(self) -> None:
        """Nobody is left who could try. It must be `exhausted`."""
        if not self.torn:
            self._effects.bury(self.job, self._epitaph)
        self.error = self.exhausted
        self.nudge()

    def _forget(self, now: float) -> None:
        """There is no holder, and what it said is gone unless the client has it."""
        if self.holder is not None:
            self._former[self._nonce] = self.holder.holder
        self.holder = None
        self._parked.clear()
        self.times.freed = now
        if not self._released:
            self.head = None
            self.notes.clear()
            self._pieces.clear()
            self.buffered = 0
            self.times.first = 0.0
            if self.splice is not None:
                self.splice.forget()

    def nudge(self) -> None:
        """Let `change` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _whose(holder: Claim) -> str:
    return f"the worker on {holder.node}" if holder.node else "the fallback"


def _mistaken(fault: Fail) -> bool:
    """Whether the holder gave the job up since nobody seemed to wait for it: this process stood
    still, or could not be heard. Its message went with it."""
    return fault.code == errors.ClientGone.code


def _error(fault: Fail, source: str) -> HeadraceError:
    return errors.from_code(fault.code, fault.message, source=source)
