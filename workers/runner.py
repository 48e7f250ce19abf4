"""Runs jobs. Each attempt makes one claim, sends one terminal frame, and then acks the job."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache

import structlog

from schemas import frames, jobs, metrics, subjects, traces
from schemas.bus import Bus, BusError, Message
from schemas.frames import Control, Op, Role
from schemas.jetstream.pulls import hand_back
from schemas.jetstream.words import ACK, IN_PROGRESS, NAK, TERM
from schemas.jobs import CodecError, OtherVersion
from schemas.settings import Settings
from schemas.strangers import Strangers
from workers.attempt import Attempt, Outbox, Ring
from workers.body import fetch
from workers.cancellation import BY_OP, Reason, Withdrawn
from workers.engines.base import EngineFault
from workers.lost_ingresses import LostIngresses
from workers.probes import Probes
from workers.slots import Runnable, Slots, Source
from workers.traced import Tracer, follow

log = structlog.get_logger("runner")

CLAIM_PATIENCE = 2.0
"""Seconds to wait for the answer to a claim; after that the ingress counts as gone."""
TICK = 0.5
"""Seconds between two looks at the running jobs."""
LEASE_SHARE = 0.8
"""Share of ack_wait during which a worker trusts a lease that it has not prolonged."""
QUIET = 2.0
"""Seconds without progress after which the runner probes the engine."""
_SIZE = "Nats-Msg-Size"
"""The header in which the broker says how large the body is that it leaves out."""
LATER = 5.0
"""Seconds until the broker offers a job again that this process cannot read."""
REST = 0.1
"""Seconds for which a slot rests whose job was to be left to others. If it asked at once, it would
get the job again, however many others wait for one, if their rank is behind its own."""
_KEEP = 5.0
"""Seconds after its end during which an attempt can send lost frames again."""
_KEEP_BYTES = 16 * 2**20
"""Most bytes that the rings of all ended attempts may hold."""


_ended = cache(metrics.ATTEMPTS.labels)
"""Looked up once, as that takes 2 µs a call."""


class Runner:
    """Holds all attempts of this process, and obeys the control messages for them."""

    def __init__(self, bus: Bus, role: Role, holder: str, node: str, config: Settings) -> None:
        self._bus = bus
        self._role = role
        self._holder = holder
        self.node = node
        self._ring = config.worker.ring
        self._stall = config.worker.stall
        self._lease = config.jobs.ack_wait * LEASE_SHARE
        self.running: dict[int, tuple[Attempt, Slots]] = {}
        """By nonce: of one job there may be several, until its ingress has said which counts."""
        self._ended: OrderedDict[int, Ring] = OrderedDict()
        """By nonce: of attempts that ended, the oldest first."""
        self._outbox = Outbox(bus.before_writing)
        self._kept = 0
        self._away = 0.0
        self._probes = Probes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered: list[tuple[Slots, Attempt]] = []
        """Attempts with a whole answer, of which `tick` tells: no job is to wait for that."""
        self._strangers = Strangers(log, "runner.refused")
        self._lost_ingresses = LostIngresses()
        self.on_order: Callable[[bytes], None] = lambda order: None
        """Gets what the hub orders, as it comes."""
        self.on_ranks: Callable[[bytes], None] = lambda ranks: None
        """Gets what an ingress says of ranks."""
        self.on_show: Callable[[], None] = lambda: None
        """Called when somebody asks for a whole card."""
        self.tracer: Tracer | None = None
        """What is told to OpenTelemetry; None if nothing is."""
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def holder(self) -> str:
        """The name of this process."""
        return self._holder

    async def open(self) -> None:
        await self._bus.subscribe(subjects.control(self._holder), self._control)
        self._bus.on_reconnect(lambda: self._lost_ingresses.joined(time.monotonic()))

    def take(self, slots: Slots, source: Source, message: Message) -> None:
        """Start a delivered job; from now on it occupies a slot."""
        if not message.data and _SIZE in (message.headers or ()):
            # Whoever made its consumer leaves the bodies out. The job waits until that is mended.
            log.error("runner.heads_alone", subject=message.subject)
            hand_back(self._bus, message.reply, LATER)
            source.fill()
            return
        try:
            job = jobs.unpack(message.data)
            attempt = Attempt(self._bus, self._holder, job, message.reply, self._ring, self._outbox)
        except OtherVersion as fault:
            self._strangers.refused(message.subject, fault)
            hand_back(self._bus, message.reply, LATER)  # a worker of another version may read it
            source.fill()
            return
        except (CodecError, ValueError, IndexError) as fault:
            log.error("runner.undecodable", error=str(fault))
            self._bus.post(message.reply, TERM)
            source.fill()
            return
        if message.headers and traces.PARENT in message.headers:
            attempt.trace = traces.of_job(message.headers)
        if attempt.number > 1:
            self._say_alive(job.id)
        # In this turn: the puller has room for one job fewer from now on.
        slots.take()
        attempt.spare = max(0, slots.free())
        self.running[attempt.nonce] = attempt, slots
        self.idle.clear()
        task = asyncio.create_task(self._run(slots, source, attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say_alive(self, job: str) -> None:
        """The job comes again: if an attempt here still has it, its ingress hears of that first,
        and turns the claim away."""
        for attempt in self._attempts(job):
            attempt.alive(subjects.control(self._holder))

    def _attempts(self, job: str) -> list[Attempt]:
        attempts = [attempt for attempt, _ in self.running.values()]
        return [each for each in attempts if job in (each.job.id, each.delivered)]

    async def _run(self, slots: Slots, source: Source, attempt: Attempt) -> None:
        verdict, outcome = b"", "interrupted"
        # Not set by `take`: a task that is cancelled before it begins never reaches `_finish`.
        attempt.task = asyncio.current_task()
        try:
            try:
                if attempt.stopped is not None:  # before this task had its first turn
                    raise attempt.stopped
                await self._perform(slots.engine, attempt)
                self._answered.append((slots, attempt))
            except asyncio.CancelledError:
                if attempt.stopped is None:  # the process ends, and not this attempt alone
                    raise
                raise attempt.stopped from None
            verdict = self._leased(attempt, ACK)
            # A late job comes again, and its claim is answered `gone`.
            outcome = "ok" if verdict else "late"
        except EngineFault as fault:
            attempt.fail(fault.code, fault.message, fault.retryable)
            verdict = self._leased(attempt, NAK if fault.retryable else TERM)
            outcome = fault.code
            slots.suspect(fault)
        except Withdrawn as why:
            verdict, outcome = why.reason.verdict, why.reason.told
            # If the ingress only stood still, it reads this and publishes the job again.
            attempt.fail("client_gone", outcome, verdict != TERM)
            verdict = self._leased(attempt, verdict)
        except Exception as fault:
            log.error("runner.internal", job=attempt.job.id, exc_info=fault)
            attempt.fail("internal_error", "A fault of the worker; its log has it.", False)
            verdict, outcome = self._leased(attempt, TERM), "internal_error"
        finally:
            self._finish(slots, source, attempt, verdict, outcome)

    def _leased(self, attempt: Attempt, verdict: bytes) -> bytes:
        """`verdict`, or b"" if another worker may hold the job by now. The broker would obey a
        stale verdict, and so take the job from its new holder."""
        leased = not attempt.lapsed and time.monotonic() - attempt.leased < self._lease
        return verdict if leased else b""

    async def _perform(self, engine: Runnable, attempt: Attempt) -> None:
        """Claim the job, run it and send the end.

        A first attempt starts the engine before its claim is answered: nobody else can hold the
        job, unless it was published again (`job.again`). No job is acked before the answer. The
        clock here may be wrong, so a job that seems late waits for its ingress to decide.
        """
        attempt.begins = self._begins(attempt)
        attempt.claim(self._role, self.node, engine.name)
        if not attempt.begins:
            await attempt.permitted
        if attempt.trace is not None:
            follow(attempt, self.tracer, engine.name)
        job = attempt.job  # the answer may have brought another one
        log.debug("runner.began", job=job.id, model=job.model, attempt=attempt.number)
        body = await fetch(self._bus, self._holder, job) if job.body_size else job.body
        end = await engine.run(job, body, attempt)
        attempt.end(end)
        # A fast engine is done before its claim is answered, and no job is acked without a grant.
        if not attempt.permitted.done():
            await attempt.permitted

    def _begins(self, attempt: Attempt) -> bool:
        """Whether the engine gets the job before the claim is answered. Not if others wait, as one
        of them may be before it."""
        job = attempt.job
        late = time.time() * 1000 > job.total_by
        overdue = self._role is Role.FALLBACK and job.lane != subjects.CLOUD
        waits = job.body_size or job.again or late or attempt.queued or overdue
        return attempt.number == 1 and not waits

    def _finish(
        self, slots: Slots, source: Source, attempt: Attempt, verdict: bytes, outcome: str
    ) -> None:
        """Free the slot and tell the broker; called after the terminal frame, however it ended."""
        job = attempt.job
        del self.running[attempt.nonce]
        attempt.task = None  # it, its coroutine and the attempt would hold each other
        attempt.ring.until = time.monotonic()
        self._ended[attempt.nonce] = attempt.ring
        self._kept += attempt.ring.kept
        left = outcome == Reason.LEFT.told and not attempt.begins  # else it is another's by now
        rests = left and self._role is Role.WORKER
        if not rests:
            slots.release()  # before the ack, which may ask for the next job
        try:
            if verdict is ACK:
                source.finish(attempt.ack)
            elif verdict:
                self._bus.post(attempt.ack, verdict)
        except BusError as fault:  # redelivered after ack_wait; its ingress then says GONE
            log.warning("runner.ack_lost", job=job.id, error=str(fault))
        if rests:
            asyncio.get_running_loop().call_later(REST, self._free, slots, source)
        else:
            source.fill()
        if not self.running:
            self.idle.set()
        _ended(job.model, outcome).inc()
        if attempt.worked is not None and self.tracer is not None:
            self.tracer.end(attempt, outcome)
        log.debug(
            "runner.ended",
            job=job.id,
            attempt=attempt.number,
            outcome=outcome,
            verdict=verdict.decode(),
        )

    def _free(self, slots: Slots, source: Source) -> None:
        slots.release()
        source.fill()

    async def abandon(self, why: str) -> None:
        """Give every job back, so that other workers can finish them."""
        for attempt, _ in list(self.running.values()):
            attempt.stop(EngineFault(why))
        await self.idle.wait()

    def _control(self, message: Message) -> None:
        # The broker answers so to a claim or an `alive` frame if no ingress listens.
        if message.headers and message.headers.get("Status") == "503":
            self._unheard(message.headers.get("Nats-Subject", ""))
            return
        try:
            control = frames.unpack_control(message.data)
        except OtherVersion as fault:
            self._strangers.refused("an ingress", fault)
            return
        except CodecError as fault:
            log.warning("runner.undecodable_control", error=str(fault))
            return
        if control.op == Op.ORDER:
            self.on_order(control.given)
        elif control.op == Op.RANK:
            self.on_ranks(control.given)
        elif control.op == Op.SHOW:
            self.on_show()
        # The nonce alone tells which attempt is meant: it may not know its job yet.
        elif (found := self.running.get(control.nonce)) is not None:
            self._obey(found[0], control, message.headers)
        # The last frames may be lost, too, which the ingress finds only after the end.
        elif control.op == Op.RESEND and control.nonce in self._ended:
            self._ended[control.nonce].resend(control.first)

    def _unheard(self, subject: str) -> None:
        """Nobody listens to a job's frames: stop the job if its ingress is gone."""
        if self._lost_ingresses.unheard(subjects.ingress_of(subject), time.monotonic()):
            for attempt in self._attempts(subjects.job_of(subject)):
                attempt.stop(Withdrawn(Reason.ORPHANED))

    def _obey(
        self, attempt: Attempt, control: Control, headers: Mapping[str, str] | None = None
    ) -> None:
        match control.op:
            case Op.GO if control.job != attempt.job.id:
                attempt.refuse(attempt.deliverer, control.job)
            case Op.GO:
                attempt.permit()
                if attempt.lapsed:  # it has claimed again, and still holds the job
                    attempt.lapsed, attempt.leased = False, time.monotonic()
            case Op.GIVE:
                self._give(attempt, control.given, headers or {})
            case Op.RESEND:
                attempt.resend(control.first)
            case op if op in BY_OP:
                attempt.stop(Withdrawn(BY_OP[op]))
            case _:
                log.warning("runner.unknown_control", op=control.op)

    def _give(self, attempt: Attempt, given: bytes, headers: Mapping[str, str]) -> None:
        """Take another job in the place of the delivered one, unless that has begun. `headers`:
        with its trace."""
        try:
            job = jobs.unpack(given)
        except CodecError as fault:  # its claim is given up, and its ingress hears of that
            log.error("runner.undecodable", error=str(fault))
            return
        if not (attempt.permitted.done() or attempt.begins):
            attempt.give(job, traces.of_job(headers) if headers else None)
            attempt.permit()
        elif attempt.job.id != job.id:
            attempt.refuse(job.ingress, job.id)

    def tick(self, now: float) -> None:
        """Repeat unanswered claims, prolong leases, find engines that hang; runs twice a second."""
        answered, self._answered = self._answered, []
        for slots, attempt in answered:
            slots.answered(attempt)
        silent: dict[int, tuple[Slots, list[Attempt]]] = {}
        for attempt, slots in list(self.running.values()):
            if now - attempt.moved > self._stall:
                # `away`: the engine must pass its check before it gets another job.
                why = f"{slots.engine.name} made no progress for {self._stall:.0f} s"
                attempt.stop(EngineFault(why, away=True))
                continue
            self._prolong(attempt, now)
            if now - attempt.moved > QUIET:
                silent.setdefault(id(slots), (slots, []))[1].append(attempt)
        for slots, attempts in silent.values():
            self._probes.ask(slots.engine, attempts)
        self._forget(now)

    def _prolong(self, attempt: Attempt, now: float) -> None:
        if not self._bus.connected:  # no lease to prolong, and nobody can answer a claim
            attempt.began = now
            return
        if not attempt.permitted.done():
            if now - attempt.began > CLAIM_PATIENCE:
                attempt.stop(Withdrawn(Reason.ORPHANED))
                return
            if now - attempt.began > TICK:
                attempt.repeat_claim()
        attempt.lapsed = attempt.lapsed or now - attempt.leased >= self._lease
        if attempt.lapsed:  # this process stood still: another may hold the job, so it asks again
            attempt.repeat_claim()
        else:
            try:
                self._bus.post(attempt.ack, IN_PROGRESS)
                attempt.leased = now
            except BusError:
                return  # the broker is away: no lease to prolong, nobody to tell
        attempt.alive(subjects.control(self._holder))

    def _forget(self, now: float) -> None:
        """Drop the rings of attempts that ended long ago; drop the oldest if all hold too much.
        While the broker is away nobody can ask for them."""
        if not self._bus.connected:
            self._away = now
        while self._ended:
            nonce, ring = next(iter(self._ended.items()))
            if now - max(ring.until, self._away) < _KEEP and self._kept < _KEEP_BYTES:
                return
            self._kept -= ring.kept
            del self._ended[nonce]
