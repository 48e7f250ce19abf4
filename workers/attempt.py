"""One attempt at a job: its claim, its progress, its frames and the ring to resend them from."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from schemas import bounds, frames, metrics, subjects
from schemas.bus import Bus, BusError
from schemas.frames import Claim, End, Kind, Role
from schemas.jobs import Job
from schemas.traces import Trace
from workers.cancellation import Reason, Withdrawn

if TYPE_CHECKING:
    from workers.traced import Worked

PIECE = 256 * 1024
"""Most bytes of answer in one frame: the broker takes messages of at most 2 MB."""


LATER = 2**20
"""Bytes of answer that are sent at once (measured: 2 ms). What is longer waits for `settle`."""
GATHER = 0.005
"""Seconds for which tokens of streams wait for those of others, once there are many. Each time that
a process is woken up costs it 50 to 100 µs, whatever it has to do then (measured)."""
MANY, OFTEN = 12, 40
"""Attempts that must have had frames within `_LOOK`, and how often they must: then at least two
frames meet in `GATHER`. With fewer, to wait gains nothing."""
_LOOK = 0.1

Soon = Callable[[Callable[[], None]], object]


class Outbox:
    """When the frames of the attempts of a process are posted: at the end of the turn of the event
    loop. Once many attempts stream, tokens wait for each other for `GATHER`, so that they go out in
    one write. What is urgent never waits, and takes all others along."""

    def __init__(self, soon: Soon, clock: Callable[[], float] = time.monotonic) -> None:
        """`soon`: calls something at the end of the turn, and writes what that posts."""
        self._soon = soon
        self._clock = clock
        self._due: list[Attempt] = []
        self._gathering: asyncio.TimerHandle | None = None
        """What will post them, if they wait for others."""
        self.gathers = False
        self._busy: set[Attempt] = set()
        self._flushed = 0
        self._since = 0.0

    def add(self, attempt: Attempt, urgent: bool) -> None:
        """`attempt` has frames to post from now on."""
        self._due.append(attempt)
        if self._gathering is not None:
            if urgent:
                self.hurry()
        elif len(self._due) == 1:  # else it will be posted with the others
            if self.gathers and not urgent:
                loop = asyncio.get_running_loop()
                self._gathering = loop.call_later(GATHER, self._flush)
            else:
                self._soon(self._flush)

    def hurry(self) -> None:
        """Post them at the end of this turn."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
            self._soon(self._flush)

    def _flush(self) -> None:
        due, self._due, self._gathering = self._due, [], None
        faults: list[Exception] = []
        for attempt in due:
            try:
                attempt.flush()
            except Exception as fault:  # noqa: BLE001 - the frames of others are to go out
                faults.append(fault)
        self._look(due)
        if faults:
            raise ExceptionGroup("frames were not posted", faults)

    def _look(self, due: list[Attempt]) -> None:
        """See whether so many stream that they gather."""
        self._busy.update(due)
        self._flushed += len(due)
        now = self._clock()
        if now - self._since > _LOOK:
            # After a pause, what was counted came in a longer time.
            fresh = now - self._since < 2 * _LOOK
            self.gathers = fresh and len(self._busy) >= MANY and self._flushed >= OFTEN
            self._busy.clear()
            self._flushed, self._since = 0, now


class Ring:
    """The last frames of one attempt, to send them again. It outlives its attempt for some seconds,
    in which a busy worker has thousands of them: the objects of whole attempts, all of which the
    garbage collector went through, cost a twentieth of its CPU (measured). `limit`: bytes, but for
    the last frame, which stays, of any size."""

    __slots__ = ("_bus", "_frames", "_limit", "kept", "nonce", "number", "sent", "subject", "until")

    def __init__(self, bus: Bus, number: int, nonce: int, limit: int) -> None:
        """`number`, `nonce`: of the attempt, see there."""
        self._bus = bus
        self.number, self.nonce = number, nonce
        self.subject = ""
        """Where the frames go."""
        self._frames: deque[bytes] = deque()
        self._limit = limit
        self.kept = 0
        """Bytes in the ring."""
        self.sent = 0
        """Frames of the answer so far; the number of the next one."""
        self.until = 0.0
        """When the attempt ended, in monotonic seconds."""

    def add(self, kind: Kind, body: Any) -> bytes:
        """The next frame of the answer."""
        frame = frames.pack(kind, self.number, self.nonce, self.sent, body)
        self._frames.append(frame)
        self.kept += len(frame)
        self.sent += 1
        while self.kept > self._limit and len(self._frames) > 1:
            self.kept -= len(self._frames.popleft())
        return frame

    def resend(self, first: int) -> bool:
        """Send again all frames from `first` on; if one has left the ring, say that the attempt has
        failed, and return False."""
        metrics.RESENDS.inc()
        oldest = self.sent - len(self._frames)
        if first < oldest:
            # Under the number that is missing: all later ones would wait for that.
            fault = ("stream_interrupted", "frames were lost and are no longer kept", False)
            self.post(frames.pack(Kind.FAIL, self.number, self.nonce, first, fault))
            return False
        for frame in islice(self._frames, first - oldest, None):
            self.post(frame)
        return True

    def post(self, payload: bytes, reply: str = "") -> None:
        with contextlib.suppress(BusError):  # the ingress will ask for the lost frame
            self._bus.post(self.subject, payload, reply)


class Attempt:
    """A delivery that this worker holds. It is the `Sink` for the engine's answer.

    Frames that the `outbox` posts at the same time travel in one message. `number` is the broker's
    delivery count and `nonce` is 56 random bits: with both, the ingress tells this attempt's frames
    from those of any other. `turn` is (stream sequence, delivery count). `delivered` is the id of
    the job that came with the delivery, and `deliverer` its ingress; another job may have been
    given for it.
    """

    def __init__(
        self, bus: Bus, holder: str, job: Job, ack: str, ring: int, outbox: Outbox | None = None
    ) -> None:
        """`holder`: who has it, this process. `outbox`: of all its attempts. Raises ValueError or
        IndexError if `ack` is not an ack subject."""
        self.job = job
        self.delivered, self.deliverer = job.id, job.ingress
        self.ack = ack
        self.turn = subjects.turn_of(ack)
        self.number = self.turn[1]
        self.nonce = int.from_bytes(os.urandom(7), "big")
        self.permitted = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.stopped: Exception | None = None
        # Since when the claim waits; the last progress; when the lease was last prolonged.
        self.began = self.moved = self.leased = time.monotonic()
        self.lapsed = False
        """The lease was not prolonged in time. The ingress has to say anew who holds the job."""
        self.generating = False
        """The engine works on the answer, but has sent nothing of it yet."""
        self.begins = False
        """The engine gets the job before the claim is answered, so no other job can be given."""
        self.opened = 0.0
        """When the head of the answer was sent: with the first words of a stream, or with all."""
        self.ended: End | None = None
        self.granted = 0.0
        """When its claim was granted."""
        self.trace: Trace | None = None
        """Where its job is in a trace."""
        self.worked: Worked | None = None
        """What is told of it to OpenTelemetry."""
        self.spare = 0
        """Slots that were free here beside the one for this job when it came."""
        self._claim = b""
        self._holder = holder
        self._bus = bus
        self.ring = Ring(bus, self.number, self.nonce, ring)
        self.ring.subject = subjects.frames(job.ingress, self._holder, job.id)
        self._ready: list[bytes] = []
        self._waiting = 0
        """Bytes that are ready."""
        self._outbox = outbox or Outbox(bus.before_writing)
        self._late = b""
        """A large piece that goes out while others have their turns, if somebody waits for it."""
        self._urgent = True
        """Until the client has the first bytes of the answer, nothing waits."""

    @property
    def queued(self) -> bool:
        """Whether jobs waited behind this one when it came, so that another may be before it. Those
        for which there are slots here do not wait: they are on their way."""
        return subjects.left_of(self.ack) > self.spare

    @property
    def sent(self) -> int:
        """Frames of the answer so far."""
        return self.ring.sent

    def claim(self, role: Role, node: str, engine: str) -> None:
        edition, begins = self.job.edition, self.begins
        self._claimant = Claim(role, self._holder, node, engine, self.ack, edition, begins)
        self._pack_claim()
        self.repeat_claim()

    def _pack_claim(self) -> None:
        # A claim is no part of the answer, so it does not use up a number.
        self._claim = frames.pack(Kind.CLAIM, self.number, self.nonce, 0, self._claimant.body)

    def give(self, job: Job, trace: Trace | None = None) -> None:
        """Have another job in the place of the delivered one. From now on all is said of it."""
        self.job, self.trace, self.begins = job, trace, True
        self.ring.subject = subjects.frames(job.ingress, self._holder, job.id)
        self._claimant = replace(self._claimant, edition=job.edition, began=True)
        self._pack_claim()

    def refuse(self, ingress: str, job: str) -> None:
        """Two ingresses gave the slot to jobs of theirs, and this one came too late. It publishes
        its job again, as it is there (see `Ticket._failed`)."""
        why = ("client_gone", "another job has the slot", False)
        frame = frames.pack(Kind.FAIL, self.number, self.nonce, 0, why)
        with contextlib.suppress(BusError):  # the ingress finds that its job has no holder
            self._bus.post(subjects.frames(ingress, self._holder, job), frame)

    def permit(self) -> None:
        """The claim is granted."""
        if not self.permitted.done():
            self.granted = time.monotonic()
            self.permitted.set_result(None)

    def repeat_claim(self) -> None:
        """The broker sends 503 to the holder if no ingress listens."""
        self.ring.post(self._claim, subjects.control(self._holder))

    def start(self, status: int, content_type: str) -> None:
        if len(content_type) > bounds.TEXT:
            content_type = bounds.cut(content_type)
        self._add(Kind.START, (status, content_type))
        self.opened = self.moved

    def note(self, *pairs: tuple[str, str]) -> None:
        """Tell the ingress a fact about the answer; one told before `start` goes into its head."""
        self._add(Kind.NOTE, pairs)

    def data(self, chunk: bytes) -> None:
        if len(chunk) > LATER:
            self._send_late()
            self._late = chunk
            return
        if len(chunk) <= PIECE:
            if self._waiting + len(chunk) > PIECE:
                self.flush()
            self._add(Kind.DATA, chunk)
            return
        for at in range(0, len(chunk), PIECE):
            self.flush()  # before it: two pieces must not share a message
            self._add(Kind.DATA, chunk[at : at + PIECE])
        self.flush()

    def touch(self) -> None:
        self.generating = True
        self.moved = time.monotonic()

    def probed(self) -> None:
        """The engine answered a probe, so it does not hang, whatever it does with this job."""
        self.moved = time.monotonic()

    async def settle(self) -> None:
        late, self._late = self._late, b""
        for at in range(0, len(late), LATER):
            self.data(late[at : at + LATER])
            await self._bus.settle()
            await asyncio.sleep(0)
        # What is ready is small, and goes out with the end if that comes in this turn: a message
        # less for the broker and the ingress.
        await self._bus.settle()

    def end(self, end: End) -> None:
        self.ended = end
        self._add(Kind.END, end.body)
        self.flush()  # at once: the ack follows in this turn, and must not overtake the end

    def fail(self, code: str, message: str, retryable: bool) -> None:
        self._add(Kind.FAIL, (code, bounds.cut(message, bounds.MESSAGE), retryable))
        self.flush()

    def alive(self, reply: str) -> None:
        """Say that the attempt lives; the broker sends 503 to `reply` if no ingress listens."""
        self.flush()
        body = self.generating or None
        # It has the number of the next frame, so that the ingress sees if the last one was lost.
        frame = frames.pack(Kind.ALIVE, self.number, self.nonce, self.ring.sent, body)
        self.ring.post(frame, reply)

    def resend(self, first: int) -> None:
        """Send again all frames from `first` on; fail the attempt if the ring has lost one."""
        if not self.ring.resend(first):
            self.stop(Withdrawn(Reason.UNSENDABLE))

    def stop(self, why: Exception) -> None:
        """End the attempt's task. `why` is Withdrawn or EngineFault; only the first call counts."""
        if self.stopped is None:
            self.stopped = why
            if self.task is not None:
                self.task.cancel()

    def _send_late(self) -> None:
        """Send at once what nobody has waited for."""
        late, self._late = self._late, b""
        for at in range(0, len(late), LATER):
            self.data(late[at : at + LATER])

    def _add(self, kind: Kind, body: Any) -> None:
        if self._late:
            self._send_late()
        frame = self.ring.add(kind, body)
        self.moved = time.monotonic()
        if not self._ready:  # else it is in the outbox already
            self._outbox.add(self, self._urgent)
        self._ready.append(frame)
        self._waiting += len(frame)
        self._urgent = self._urgent and kind != Kind.DATA

    def flush(self) -> None:
        """Post the frames that are ready."""
        if self._ready:
            ready, self._ready, self._waiting = self._ready, [], 0
            self.ring.post(ready[0] if len(ready) == 1 else b"".join(ready))
