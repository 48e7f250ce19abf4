"""Publishes jobs, cancels them, and keeps the tickets of those in flight."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import structlog

from ingress.jobs import stored
from ingress.jobs.affine import Affine
from ingress.jobs.claims import Claims
from ingress.jobs.ended import Ended
from ingress.jobs.fair import FairQueue, Queues
from ingress.jobs.line import Line
from ingress.jobs.order import Order
from ingress.jobs.placement import Placement, Places
from ingress.jobs.pulse import SOON
from ingress.jobs.retry_after import RetryAfter
from ingress.jobs.state import Terms
from ingress.jobs.ticket import Ticket
from ingress.jobs.usage import UsageCounter
from ingress.models.locality import CLOUD, LOCAL
from ingress.models.routes import Plan
from schemas import errors, jobs, metrics, subjects, topology
from schemas.bus import Bus, BusError
from schemas.frames import End, Op, pack_control
from schemas.jetstream import streams
from schemas.jobs import Job
from schemas.settings import Settings
from schemas.traces import CURRENT

log = structlog.get_logger("dispatch")

LETTER = 64 * 1024
"""Bytes that a dead letter may have beside its body."""
ENDED = 2000
"""Requests that are over of which something is kept."""
FULL_PAUSE = 0.05
"""Seconds until a job that was accepted before is published again in a full queue."""
_NO_LEADER = frozenset({10006, 10007, 10008, 10009})
"""err_codes of a cluster of brokers that is about to choose its leaders."""


class Dispatch:
    """Keeps all tickets by job id, and is the `Effects` through which each acts."""

    def __init__(
        self,
        bus: Bus,
        ingress: str,
        config: Settings,
        slots: Callable[[str, str], int] = lambda model, lane: 0,
        workers: Callable[[str, str], AbstractSet[str]] = lambda model, lane: frozenset(),
        places: Places = lambda model, pin: (),
    ) -> None:
        """`slots`: how many jobs of a model and lane are worked on at once; 0 if unknown.
        `workers`: who serves them, as its ingress hears of them. `places`: the nodes for a pinned
        job."""
        self.tickets: dict[str, Ticket] = {}
        self.waits = RetryAfter(slots)
        self.queues = Queues()
        self.calm = False
        """Who looks at the tickets does so seldom now, or as soon as `waiting` is set."""
        self.waiting = asyncio.Event()
        self.placement = Placement(places, self.queues)
        self.claims = Claims(self.tickets, self.queues)
        self.affine = Affine(bus, ingress, config, self.tickets, self.queues, self.claims)
        self.usage = UsageCounter(bus, ingress)
        patience = config.jobs.batch_patience
        self.line = Line(bus, self.tickets, self.queues, workers, self.waits.each, patience)
        self.ended = deque[Ended](maxlen=ENDED)  # for those who look
        self._bus = bus
        self.after_reading = bus.after_reading
        self.ingress = ingress
        self._config = config
        self._workers = workers
        self._deleting: set[asyncio.Task[None]] = set()  # the event loop itself holds no task

    async def submit(self, order: Order) -> Ticket:
        """Register the job, then publish it; if its queue is full, it has failed. Raises
        BrokerUnavailable, NoWorker, and StreamInterrupted if nobody can go on from what has
        begun."""
        await self._reachable()
        if (pin := order.plan.pin) is not None:
            having = self.affine.nodes(order.plan.model, order.trail) if order.trail else ()
            order = replace(order, lane=self.placement.lane(order.plan.model, pin, having))
        elif order.trail is not None and order.lane == subjects.INTERACTIVE and not order.begun:
            self.affine.send(order.plan, order.trail)
        ticket = self._ticket(order)
        job = ticket.job
        self.tickets[job.id] = ticket  # before the publish, as a worker may claim at once
        if order.trail is not None:
            self.affine.follow(ticket, order.trail)
        queue = self.queues.opened(job.model, order.lane, job.account)
        metrics.IN_FLIGHT.inc()
        if (full := self._is_full(job, queue)) is not None:
            ticket.fail(full)
            return ticket
        self._enter(ticket, job)
        try:
            self._post(job)
        except BusError as fault:
            self.close(ticket)
            raise errors.BrokerUnavailable(str(fault), retry_after=1) from None
        return ticket

    async def submit_all(self, orders: list[Order]) -> list[Ticket]:
        """Submit all jobs of one request, or none. Raises BrokerUnavailable, NoWorker."""
        tickets: list[Ticket] = []
        group = os.urandom(15).hex()  # two digits of an id are left for the job's number
        try:
            for number, order in enumerate(orders):
                one = replace(order, id=jobs.one_of(group, number), together=len(orders))
                tickets.append(await self.submit(one))
        except errors.Unavailable:
            for ticket in tickets:
                self.close(ticket)
            raise
        return tickets

    def confirm(self, ticket: Ticket) -> None:
        """Publish the job again unless the broker, or a holder, has said that it has it. If it has
        it all the same, it drops the repetition: it knows the message's id for two minutes."""
        if ticket.unconfirmed:
            self.publish(ticket.repeated(time.monotonic()))

    def answered(self, ticket: Ticket, edition: int, data: bytes) -> None:
        """Hear the broker's answer to a publish. After an empty one (status 503: nobody leads the
        stream now), or one that says so, the job is published again by and by."""
        answer: dict[str, Any] = orjson.loads(data or b'{"error":{"err_code":10008}}')
        if (error := answer.get("error")) is None:
            if self.waits.full:
                self.waits.freed(ticket.job.model, ticket.job.lane, ticket.job.account)
            waits = (ticket.job.total_by - ticket.job.arrived) / 1000 + topology.TTL_SLACK
            ticket.postings.stored(edition, int(answer["seq"]), ticket.times.queued + waits)
            return
        if error.get("err_code") in _NO_LEADER:
            return
        job, why = ticket.job, error.get("description")
        log.warning("dispatch.not_stored", job=job.id, edition=edition, error=why)
        full = topology.queue_full(error)
        if full and edition == job.edition > 0:
            # The job was accepted before, and lost its holder since: it waits for room.
            asyncio.get_running_loop().call_later(FULL_PAUSE, self._again, ticket, edition)
        elif full:
            self.waits.was_full(job.model, job.lane, job.account, time.monotonic())
            ticket.refused(edition, self._full(job))
        else:
            why = f"The broker did not take the job: {why}."
            ticket.refused(edition, errors.BrokerUnavailable(why, retry_after=1))

    def _again(self, ticket: Ticket, edition: int) -> None:
        if not ticket.done and edition == ticket.job.edition:
            ticket.forgive(time.monotonic())
            self.publish(ticket.job)

    def move(self, ticket: Ticket, lane: str, now: float) -> None:
        """Have a pinned job wait for another node, in whose `lane` it counts from now on."""
        job = ticket.job
        log.info("job.other_node", job=job.id, node=subjects.node_of(lane))
        self.queues.closed(job.model, ticket.terms.lane, job.account)
        self.queues.opened(job.model, lane, job.account)
        ticket.to_node(lane, now)

    @property
    def choiceless(self) -> bool:
        """Whether a claim is for its own job alone: none were exchanged, no second one waits."""
        return not self.claims.moved and self.claims.others is None and len(self.queues) < 2

    def close(self, ticket: Ticket) -> None:
        """The client has its answer, or left. If somebody still works on the job, stop them."""
        job = ticket.job
        if self.tickets.pop(job.id, None) is None:
            return
        self.queues.leave(job.id)
        if job.id in self.claims.moved:
            self.claims.forget(job.id)
        self.queues.closed(job.model, ticket.terms.lane, job.account)
        if self.affine.shared:
            self.affine.closed(ticket)
        metrics.IN_FLIGHT.dec()
        if not ticket.done:
            metrics.CANCELS.inc()
        ticket.close()
        self.usage.count(ticket)
        if (end := ticket.received.ended) is not None:
            self._measure(job, end)

    def _measure(self, job: Job, end: End) -> None:
        if self.waits.full:
            self.waits.freed(job.model, job.lane, job.account)
        if end.engine_ms:
            self.waits.took[job.model].append(end.engine_ms / 1000)

    async def restore(self, ticket: Ticket, passed: bool = False) -> bool:
        """Publish a job again if the stream has it no more: a stale ack of a lost holder took it
        out, or the broker lost it. `passed`: also if its consumer has passed it. Returns whether
        it was published. Raises BusError."""
        job, newest = ticket.job, ticket.postings.newest
        sequence = newest.sequence
        if await stored.is_stored(self._bus, newest.message[0], sequence):
            if not passed or not await stored.is_passed(self._bus, job, sequence):
                return False
            self.delete(sequence)
        restored = ticket.vanished(sequence, time.monotonic())
        if restored:
            log.warning("dispatch.restored", job=job.id)
        return restored

    # What tickets do to the world

    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None:
        given, traced = b"", None
        if op is Op.GIVE:
            given, traced = self.tickets[job].job.pack(), self.tickets[job].traced
        told = pack_control(op, job, nonce, first, given)
        with suppress(BusError):  # once the broker is back, it is said or asked for again
            self._bus.post(subjects.control(holder), told, "", traced)

    def verdict(self, ack: str, word: bytes) -> None:
        if not subjects.is_ack(ack):  # a claim could name any subject and have this process post
            log.warning("dispatch.no_ack_subject", subject=ack[:200])
            return
        with suppress(BusError):  # the broker redelivers after ack_wait anyway
            self._bus.post(ack, word)

    def served(self, job: Job) -> None:
        self.queues.served(job)
        if self.affine.shared:
            self.affine.served(self.tickets[job.id])

    def lost(self, job: Job, since: float) -> None:
        self.queues.lost(job, since)
        self._look_soon()
        if self.affine.shared:
            self.affine.lost(job.id)

    def others(self, job: Job, holders: AbstractSet[str]) -> bool:
        return bool(self._workers(job.model, job.lane) - holders)

    def publish(self, job: Job) -> None:
        self._enter(self.tickets[job.id], job)
        with suppress(BusError):  # `confirm` publishes the job once the broker is back
            self._post(job)

    def delete(self, sequence: int) -> None:
        """Best effort: if a holder gets the message after all, its claim is answered `GONE`."""
        task = asyncio.create_task(self._delete(sequence))
        self._deleting.add(task)
        task.add_done_callback(self._deleting.discard)

    def dead_letter(self, job: Job, error: str) -> None:
        headers = {"Headrace-Error": error, "Headrace-Job": job.id, "Headrace-Model": job.model}
        ticket = self.tickets.get(job.id)
        if ticket is not None and len(ticket.body) < self._bus.max_payload - LETTER:
            job = replace(job, body=ticket.body[:], body_size=0)  # later nobody can be asked for it
        try:
            self._bus.post(subjects.dead(job.model), job.pack(), headers=headers)
        except BusError as fault:
            log.warning("dispatch.dead_letter_lost", job=job.id, error=str(fault))

    async def _delete(self, sequence: int) -> None:
        with suppress(BusError):
            await streams.delete(self._bus, subjects.JOBS_STREAM, sequence)

    def _enter(self, ticket: Ticket, job: Job) -> None:
        """An edition of the job is published: it waits, unless that is a copy for providers."""
        self.queues.enter(job, ticket.terms.weight, ticket.times.queued)
        self._look_soon()
        if len(self.queues) > 1 and not job.edition and job.lane != subjects.CLOUD:
            self.line.note(job)

    def _look_soon(self) -> None:
        """A job begins to wait."""
        if self.calm:
            self.calm = False
            asyncio.get_running_loop().call_later(SOON, self.waiting.set)

    def _post(self, job: Job) -> None:
        """The broker answers to the reply subject, see `answered`. Raises BusError."""
        ticket = self.tickets[job.id]
        waited = time.monotonic() - ticket.times.queued
        ttl = (job.total_by - job.arrived) / 1000 - waited + topology.TTL_SLACK
        headers = {
            "Nats-Msg-Id": f"{job.account}:{job.id}:{job.edition}",
            "Nats-TTL": f"{max(1, round(ttl))}s",  # the broker refuses less than a second
            **ticket.traced,
        }
        if subjects.is_pinned(job.lane):
            headers.update(self.affine.headers(job.id))
        self._bus.post(
            subjects.jobs(job.model, job.lane, job.account),
            job.pack(),
            subjects.answer(self.ingress, job.id, job.edition),
            headers,
        )

    async def _reachable(self) -> None:
        until = time.monotonic() + self._config.ingress.broker_wait
        while not self._bus.connected:
            if time.monotonic() > until:
                why = "The broker is away; the request was not queued. Try again."
                raise errors.BrokerUnavailable(why, retry_after=1)
            await asyncio.sleep(0.02)

    def _is_full(self, job: Job, queue: FairQueue) -> errors.QueueFull | None:
        """What to tell a job that certainly finds no room: the `queue` of all is full, or that of
        its account was full lately. Else the broker says whether there is room."""
        depth, elsewhere = self._config.jobs.queue_depth, self.queues.elsewhere
        if queue.open + (elsewhere(*queue.name) if elsewhere is not None else 0) > depth:
            wait = self.waits.refuse(
                *queue.name, depth=depth, queued=queue.open, now=time.monotonic()
            )
            why = f"{depth} requests for {job.model} wait or run already. Try again later."
            return errors.QueueFull(why, retry_after=wait)
        if not self.waits.full:
            return None
        known = self.waits.is_full(job.model, job.lane, job.account, time.monotonic())
        return self._full(job) if known else None

    def _full(self, job: Job) -> errors.QueueFull:
        """The queue of the job's account is full."""
        depth = self._config.jobs.depth_of_one
        return errors.QueueFull(
            f"{depth} requests of yours for {job.model} wait or run already. Try again later.",
            retry_after=self._turn(job, depth),
        )

    def _turn(self, job: Job, depth: int) -> float:
        """Seconds until the one that is refused finds room in the queue of its account."""
        part = self.queues.of(job.model, job.lane).part(job.account)
        queued = self.queues.tenants.get((job.model, job.account), 0)
        return self.waits.refuse(
            job.model,
            job.lane,
            depth=depth,
            queued=queued,
            now=time.monotonic(),
            tenant=job.account,
            part=part,
        )

    def _ticket(self, order: Order) -> Ticket:
        plan, most = order.plan, self._config.jobs.max_attempts
        hedge = plan.hedge if order.lane != subjects.BATCH else 0.0
        more = order.resumers, order.weight, order.lane, plan.pin
        terms = Terms(most, plan.reach != LOCAL, hedge, *more, outline=order.outline)
        now, trace = time.monotonic(), CURRENT.get()
        ticket = Ticket(self._job(order), order.body, terms, self, now, trace)
        if order.begun:
            ticket.go_on(order.begun)
        return ticket

    def _deadlines(self, plan: Plan, lane: str) -> tuple[float, float, float]:
        """Seconds until somebody must have taken the job, for its first and for its last byte."""
        if lane == subjects.BATCH:  # it may wait as long as it likes, and nobody is waited for
            limits = self._config.routes
            return limits.batch_claim, limits.batch_total, limits.batch_total
        # Nobody could take over from providers alone, so only `total` ends their job.
        first = plan.total if lane == subjects.CLOUD else plan.first_token
        return plan.claim, first, plan.total

    def _job(self, order: Order) -> Job:
        plan, now = order.plan, time.time()
        lane = subjects.CLOUD if plan.reach == CLOUD else order.lane
        if order.trail is not None:
            lane = order.trail.lane or lane
        claim, first, total = self._deadlines(plan, lane)
        inline = len(order.body) <= self._config.ingress.inline_body
        return Job(
            id=order.id or os.urandom(16).hex(),
            ingress=self.ingress,
            lane=lane,
            model=plan.model,
            asked=plan.name,
            endpoint=order.endpoint,
            arrived=round(now * 1000),
            claim_by=round((now + claim) * 1000),
            first_by=round((now + first) * 1000),
            total_by=round((now + total) * 1000),
            stream=order.stream,
            account=order.account,
            key=order.key,
            content_type=order.content_type,
            body=order.body[:] if inline else b"",
            body_size=0 if inline else len(order.body),
            lenient=order.lenient,
            local=plan.mixed and plan.reach == LOCAL,  # so that no fallback takes it
            together=order.together,
            route=plan.route,
        )
