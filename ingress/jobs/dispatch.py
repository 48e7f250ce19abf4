"""Publishes jobs, cancels them, and keeps the tickets of those in flight."""

from __future__ import annotations

import asyncio
import os
import time
from base64 import b64decode
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog

from ingress.jobs.retry_after import RetryAfter
from ingress.jobs.state import Terms
from ingress.jobs.ticket import Ticket
from ingress.jobs.usage import DAY, UsageCounter
from ingress.models.locality import CLOUD, LOCAL
from ingress.models.routes import Plan
from schemas import errors, jobs, metrics, subjects, topology
from schemas.bus import ApiError, Bus, BusError
from schemas.frames import End, Op, pack_control
from schemas.jetstream import streams
from schemas.jobs import Job
from schemas.settings import Settings

log = structlog.get_logger("dispatch")

LETTER = 64 * 1024
"""Bytes that a dead letter may have beside its body."""
FULL_PAUSE = 0.05
"""Seconds until a job that was accepted before is published again in a full queue."""
_NO_LEADER = frozenset({10006, 10007, 10008, 10009})
"""err_codes of a cluster of brokers that is about to choose its leaders."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an endpoint wants done. `body` goes to the engine as it is."""

    plan: Plan
    endpoint: str
    stream: bool
    body: bytes
    content_type: str
    account: str
    key: str
    lenient: bool = False
    workers_resume: bool = False
    providers_resume: bool = False
    """Who may continue the stream if it breaks."""
    thoughts_resume: bool = False
    """Workers may do so behind thoughts, too."""
    begun: bytes = b""
    """Events of a worker that the client has: the stream goes on from there."""
    id: str = ""
    """The id of its job; if empty, the job gets a random one."""
    together: int = 1
    """How many jobs its request has."""


class Dispatch:
    """Keeps all tickets by job id, and is the `Effects` through which each acts."""

    def __init__(
        self,
        bus: Bus,
        ingress: str,
        config: Settings,
        slots: Callable[[str], int] = lambda model: 0,
        workers: Callable[[str], AbstractSet[str]] = lambda model: frozenset(),
    ) -> None:
        """`slots`: how many jobs of a model are worked on at once; 0 if unknown. `workers`: who
        serves a model, as its ingress hears of them."""
        self.tickets: dict[str, Ticket] = {}
        self.waits = RetryAfter(slots)
        self.usage = UsageCounter(bus, ingress)
        self._bus = bus
        self._ingress = ingress
        self._config = config
        self._workers = workers
        self._deleting: set[asyncio.Task[None]] = set()
        """Holds tasks that run: the event loop itself would let them be collected."""

    async def submit(self, order: Order) -> Ticket:
        """Register the job, then publish it; if its queue is full, it has failed. Raises
        BrokerUnavailable, and StreamInterrupted if nobody can go on from what has begun."""
        await self._reachable()
        ticket = self._ticket(order)
        job = ticket.job
        self.tickets[job.id] = ticket  # before the publish, as a worker may claim at once
        self.waits.open[job.model] += 1
        metrics.IN_FLIGHT.inc()
        if self.waits.full and self.waits.is_full(job.model, job.lane, time.monotonic()):
            ticket.fail(self._full(job.model))
            return ticket
        try:
            self._post(job)
        except BusError as fault:
            self.close(ticket)
            raise errors.BrokerUnavailable(str(fault), retry_after=1) from None
        return ticket

    async def submit_all(self, orders: list[Order]) -> list[Ticket]:
        """Submit all jobs of one request, or none. Raises BrokerUnavailable."""
        tickets: list[Ticket] = []
        group = os.urandom(15).hex()  # two digits of an id are left for the job's number
        try:
            for number, order in enumerate(orders):
                id = jobs.one_of(group, number)
                one = replace(order, id=id, together=len(orders))
                tickets.append(await self.submit(one))
        except errors.BrokerUnavailable:
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
                self.waits.freed(ticket.job.model, ticket.job.lane)
            ticket.postings.stored(edition, int(answer["seq"]))
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
            self.waits.was_full(job.model, job.lane, time.monotonic())
            ticket.refused(edition, self._full(job.model))
        else:
            why = f"The broker did not take the job: {why}."
            ticket.refused(edition, errors.BrokerUnavailable(why, retry_after=1))

    def _again(self, ticket: Ticket, edition: int) -> None:
        if not ticket.done and edition == ticket.job.edition:
            ticket.forgive(time.monotonic())
            self.publish(ticket.job)

    def close(self, ticket: Ticket) -> None:
        """The client has its answer, or left. If somebody still works on the job, stop them."""
        if self.tickets.pop(ticket.job.id, None) is None:
            return
        self.waits.open[ticket.job.model] -= 1
        metrics.IN_FLIGHT.dec()
        if not ticket.done:
            metrics.CANCELS.inc()
        ticket.close()
        if (end := ticket.received.ended) is not None:
            self._count(ticket, end)

    def _count(self, ticket: Ticket, end: End) -> None:
        job, head, node = ticket.job, ticket.received.head, ticket.node
        if self.waits.full:
            self.waits.freed(job.model, job.lane)
        if end.engine_ms:
            self.waits.took[job.model].append(end.engine_ms / 1000)
        # What providers served is counted in the journal of credits.
        if node is not None and head is not None and head.status == 200:
            key = (int(time.time()) // DAY, job.account, job.key, job.asked, node)
            self.usage.answers.append((key, end))
            self.usage.counted.set()

    async def restore(self, ticket: Ticket, passed: bool = False) -> bool:
        """Publish a job again if the stream has it no more: a stale ack of a lost holder took it
        out, or the broker lost it. `passed`: also if its consumer has passed it. Returns whether
        it was published. Raises BusError."""
        job, sequence = ticket.job, ticket.postings.newest.sequence
        if await self._is_stored(job, sequence):
            if not passed or not await self._is_passed(job, sequence):
                return False
            self.delete(sequence)
        restored = ticket.vanished(sequence, time.monotonic())
        if restored:
            log.warning("dispatch.restored", job=job.id)
        return restored

    async def _is_stored(self, job: Job, sequence: int) -> bool:
        """A broker that lost the end of a stream gives its numbers anew, so there may be another
        job in the place of this one. Raises BusError."""
        try:
            found = await streams.stored(self._bus, subjects.JOBS_STREAM, seq=sequence)
        except ApiError:
            return False
        return job.id.encode() in b64decode(found.get("hdrs", ""))

    async def _is_passed(self, job: Job, sequence: int) -> bool:
        """Whether the job's consumer gave it to somebody, or counts it as given: an ack of the job
        that had its number before does that. Raises BusError."""
        name = subjects.consumer(job.model, job.lane)
        for found in await streams.consumers(self._bus, subjects.JOBS_STREAM):
            if found["name"] == name:
                return int(found["delivered"]["stream_seq"]) >= sequence
        return False

    # What tickets do to the world

    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None:
        with suppress(BusError):  # once the broker is back, it is said or asked for again
            self._bus.post(subjects.control(holder), pack_control(op, job, nonce, first))

    def verdict(self, ack: str, word: bytes) -> None:
        if not subjects.is_ack(ack):  # a claim could name any subject and have this process post
            log.warning("dispatch.no_ack_subject", subject=ack[:200])
            return
        with suppress(BusError):  # the broker redelivers after ack_wait anyway
            self._bus.post(ack, word)

    def others(self, model: str, holders: AbstractSet[str]) -> bool:
        return bool(self._workers(model) - holders)

    def publish(self, job: Job) -> None:
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
            job = replace(job, body=ticket.body, body_size=0)  # later nobody can be asked for it
        try:
            self._bus.post(subjects.dead(job.model), job.pack(), headers=headers)
        except BusError as fault:
            log.warning("dispatch.dead_letter_lost", job=job.id, error=str(fault))

    async def _delete(self, sequence: int) -> None:
        with suppress(BusError):
            await streams.delete(self._bus, subjects.JOBS_STREAM, sequence)

    def _post(self, job: Job) -> None:
        """The broker answers to the reply subject, see `answered`. Raises BusError."""
        waited = time.monotonic() - self.tickets[job.id].times.queued
        ttl = (job.total_by - job.arrived) / 1000 - waited + topology.TTL_SLACK
        self._bus.post(
            subjects.jobs(job.model, job.lane),
            job.pack(),
            subjects.answer(self._ingress, job.id, job.edition),
            {
                "Nats-Msg-Id": f"{job.account}:{job.id}:{job.edition}",
                "Nats-TTL": f"{max(1, round(ttl))}s",  # the broker refuses less than a second
            },
        )

    async def _reachable(self) -> None:
        until = time.monotonic() + self._config.ingress.broker_wait
        while not self._bus.connected:
            if time.monotonic() > until:
                why = "The broker is away; the request was not queued. Try again."
                raise errors.BrokerUnavailable(why, retry_after=1)
            await asyncio.sleep(0.02)

    def _full(self, model: str) -> errors.QueueFull:
        depth = self._config.jobs.queue_depth
        return errors.QueueFull(
            f"{depth} requests for {model} wait or run already. Try again later.",
            retry_after=self.waits.refuse(model, depth, time.monotonic()),
        )

    def _ticket(self, order: Order) -> Ticket:
        plan, most = order.plan, self._config.jobs.max_attempts
        resumers = order.workers_resume, order.providers_resume, order.thoughts_resume
        terms = Terms(most, plan.reach != LOCAL, plan.hedge, *resumers)
        ticket = Ticket(self._job(order), order.body, terms, self, time.monotonic())
        if order.begun:
            ticket.go_on(order.begun)
        return ticket

    def _job(self, order: Order) -> Job:
        plan, now = order.plan, time.time()
        alone = plan.reach == CLOUD
        inline = len(order.body) <= self._config.ingress.inline_body
        return Job(
            id=order.id or os.urandom(16).hex(),
            ingress=self._ingress,
            lane=subjects.CLOUD if alone else subjects.INTERACTIVE,
            model=plan.model,
            asked=plan.name,
            endpoint=order.endpoint,
            arrived=round(now * 1000),
            claim_by=round((now + plan.claim) * 1000),
            # Nobody could take over from providers alone, so only `total` ends their job.
            first_by=round((now + (plan.total if alone else plan.first_token)) * 1000),
            total_by=round((now + plan.total) * 1000),
            stream=order.stream,
            account=order.account,
            key=order.key,
            content_type=order.content_type,
            body=order.body if inline else b"",
            body_size=0 if inline else len(order.body),
            lenient=order.lenient,
            local=plan.mixed and plan.reach == LOCAL,  # so that no fallback takes it
            together=order.together,
            route=plan.route,
        )
