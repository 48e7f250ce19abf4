"""Publishes jobs, cancels them, and keeps the tickets of those in flight."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog

from ingress.jobs.resume import ResumableStream
from ingress.jobs.retry_after import DrainRate
from ingress.jobs.ticket import Ticket
from ingress.jobs.usage import Tally
from ingress.models.locality import CLOUD, LOCAL
from ingress.models.routes import Plan
from schemas import errors, jobs, metrics, subjects, topology
from schemas.bus import ApiError, Bus, BusError
from schemas.frames import Op, pack_control
from schemas.jetstream import streams
from schemas.jobs import LOCAL as LOCAL_TAG
from schemas.jobs import Job
from schemas.settings import Settings

log = structlog.get_logger("dispatch")

_HEDGE = "hedge"
"""The edition of a copy for providers beside a worker."""

AWAY_PATIENCE = 1.5
"""Seconds that a new request waits for a broker that is away."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the endpoint wants done. `body` goes to the engine as it is."""

    plan: Plan
    endpoint: str
    stream: bool
    body: bytes
    content_type: str
    account: str
    key: str
    tags: tuple[tuple[str, str], ...] = ()
    resumable: bool = False
    """Whether a provider may continue its stream if that breaks."""
    id: str = ""
    """Of its job; a random one if empty."""


class Dispatch:
    """All tickets by job id; the `Effects` of each."""

    def __init__(self, bus: Bus, ingress: str, config: Settings) -> None:
        self.tickets: dict[str, Ticket] = {}
        self.rate = DrainRate()
        self.tally = Tally(bus, ingress)
        self._bus = bus
        self._ingress = ingress
        self._config = config
        self._clearing: set[asyncio.Task[None]] = set()

    async def submit(self, order: Order) -> Ticket:
        """Register the job, then publish it. Raises BrokerUnavailable."""
        await self._reachable()
        ticket = self._ticket(order)
        self.tickets[ticket.job.id] = ticket
        metrics.IN_FLIGHT.inc()
        try:
            self.publish(ticket)
        except BusError as fault:
            self.close(ticket)
            raise errors.BrokerUnavailable(str(fault), retry_after=1) from None
        return ticket

    async def submit_all(self, orders: list[Order]) -> list[Ticket]:
        """All of one request, or none. Raises BrokerUnavailable."""
        tickets: list[Ticket] = []
        group = os.urandom(15).hex()
        try:
            for number, order in enumerate(orders):
                id, tag = jobs.together(group, number, len(orders))
                one = replace(order, id=id, tags=(*order.tags, tag))
                tickets.append(await self.submit(one))
        except errors.BrokerUnavailable:
            for ticket in tickets:
                self.close(ticket)
            raise
        return tickets

    def publish(self, ticket: Ticket) -> None:
        """Post the job; the broker's answer comes to its reply subject. Raises BusError.

        Posting again is safe: the broker knows the job id for two minutes.
        """
        self._post(ticket.job, str(ticket.edition))

    def _post(self, job: Job, edition: str) -> None:
        if edition != "0":
            job = replace(job, tags=(*job.tags, jobs.AGAIN))
        ttl = job.total_by / 1000 - time.time() + topology.TTL_SLACK
        self._bus.post(
            subjects.jobs(job.model, job.lane),
            job.pack(),
            subjects.answer(self._ingress, job.id, edition),
            {
                "Nats-Msg-Id": f"{job.account}:{job.id}:{edition}",
                "Nats-TTL": f"{max(1, round(ttl))}s",
            },
        )

    def move(self, ticket: Ticket, now: float) -> None:
        """To providers alone: what workers have or could take of the job is over."""
        unclaimed = ticket.sequence if ticket.holder is None else 0
        ticket.withdraw(now)
        ticket.job = _for_providers(ticket.job)
        if ticket.splice is not None and ticket.splice.text is not None:
            begun = jobs.begun(ticket.splice.tokens, ticket.splice.text)
            ticket.job = replace(ticket.job, tags=(*ticket.job.tags, begun))
        ticket.renew()
        ticket.sequence, ticket.times.posted = 0, now
        with suppress(BusError):  # published once it is back
            self.publish(ticket)
        if unclaimed:
            self._clear(unclaimed)

    def hedge(self, ticket: Ticket) -> None:
        """A copy of a job that a worker has, for providers alone."""
        ticket.hedged = True
        with suppress(BusError):  # then without
            self._post(_for_providers(ticket.job), _HEDGE)

    def stored(self, ticket: Ticket, edition: str, data: bytes) -> None:
        """The broker's answer to a publish; an empty one (status 503) means no JetStream."""
        answer: dict[str, Any] = orjson.loads(data or b'{"error":{"description":"no JetStream"}}')
        error = answer.get("error")
        if error is None:
            self._stored_at(ticket, edition, int(answer["seq"]))
        elif edition == _HEDGE:
            log.warning("dispatch.not_hedged", job=ticket.job.id, error=error.get("description"))
        elif edition != str(ticket.edition):
            log.debug("dispatch.late_refusal", job=ticket.job.id, error=error.get("description"))
        elif error.get("err_code") == topology.QUEUE_FULL:
            ticket.fail(self._full(ticket.job.model))
        else:
            why = f"The broker did not take the job: {error.get('description')}."
            ticket.fail(errors.BrokerUnavailable(why, retry_after=1))

    def _stored_at(self, ticket: Ticket, edition: str, sequence: int) -> None:
        if edition == _HEDGE:
            ticket.offered = sequence
        elif edition == str(ticket.edition):
            ticket.sequence = sequence
        else:  # a newer one was published meanwhile
            self._clear(sequence)

    def close(self, ticket: Ticket) -> None:
        """The client has its answer, or left. Whoever still works on the job is stopped."""
        if self.tickets.pop(ticket.job.id, None) is None:
            return
        metrics.IN_FLIGHT.dec()
        if ticket.offered:
            self._clear(ticket.offered)
        if ticket.ended is not None:
            self.rate.finished(ticket.job.model, time.monotonic())
            self.tally.count(ticket)
            return
        if not ticket.done:
            metrics.CANCELS.inc()
            ticket.fail(errors.ClientGone("the client left"))
        if ticket.holder is None and ticket.sequence:
            self._clear(ticket.sequence)

    def _clear(self, sequence: int) -> None:
        task = asyncio.create_task(self._delete(sequence))
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    def say(self, holder: str, op: Op, job: str, nonce: int, argument: object = None) -> None:
        with suppress(BusError):  # repeated, or asked for again, once it is back
            self._bus.post(subjects.control(holder), pack_control(op, job, nonce, argument))

    def verdict(self, ack: str, word: bytes) -> None:
        if not subjects.is_ack(ack):  # a claim may name any subject, and this process use it
            log.warning("dispatch.no_ack_subject", subject=ack[:200])
            return
        with suppress(BusError):  # the broker redelivers after ack_wait anyway
            self._bus.post(ack, word)

    def bury(self, job: Job, error: str) -> None:
        headers = {"Headrace-Error": error, "Headrace-Job": job.id, "Headrace-Model": job.model}
        try:
            self._bus.post(subjects.dead(job.model), job.pack(), headers=headers)
        except BusError as fault:
            log.warning("dispatch.dead_letter_lost", job=job.id, error=str(fault))

    async def restore(self, ticket: Ticket) -> None:
        """Publish a job again that a stale ack of a lost holder took out of the stream."""
        sequence = ticket.sequence
        with suppress(BusError):  # an answer that did not come says nothing of the job
            if not await self._stored_still(sequence):
                self._publish_anew(ticket, sequence)

    async def _stored_still(self, sequence: int) -> bool:
        try:
            await streams.stored(self._bus, subjects.JOBS_STREAM, seq=sequence)
        except ApiError:
            return False
        return True

    def _publish_anew(self, ticket: Ticket, sequence: int) -> None:
        if not ticket.done and ticket.holder is None and ticket.sequence == sequence:
            log.warning("dispatch.restored", job=ticket.job.id)
            self.again(ticket.job)

    def again(self, job: Job) -> None:
        ticket = self.tickets[job.id]
        if ticket.sequence:
            self._clear(ticket.sequence)
        ticket.renew()
        ticket.sequence, ticket.times.posted = 0, time.monotonic()
        with suppress(BusError):  # published once it is back
            self.publish(ticket)

    async def _delete(self, sequence: int) -> None:
        """Best effort: if a holder has it after all, its claim is answered `gone`."""
        with suppress(BusError):
            await streams.delete(self._bus, subjects.JOBS_STREAM, sequence)

    async def _reachable(self) -> None:
        until = time.monotonic() + AWAY_PATIENCE
        while not self._bus.connected:
            if time.monotonic() > until:
                why = "The broker is away; the request was not queued. Try again."
                raise errors.BrokerUnavailable(why, retry_after=1)
            await asyncio.sleep(0.02)

    def _full(self, model: str) -> errors.QueueFull:
        depth = self._config.jobs.queue_depth
        return errors.QueueFull(
            f"{depth} requests for {model} wait or run already. Try again later.",
            retry_after=self.rate.wait(model, depth, time.monotonic()),
        )

    def _ticket(self, order: Order) -> Ticket:
        job = self._job(order)
        ticket = Ticket(job, order.body, self, time.monotonic(), self._config.jobs.max_attempts)
        ticket.may_leave = order.plan.reach != LOCAL
        ticket.hedge = order.plan.hedge
        if order.resumable:
            ticket.splice = ResumableStream(order.endpoint)
        return ticket

    def _job(self, order: Order) -> Job:
        plan, now = order.plan, time.time()
        alone = plan.reach == CLOUD
        tags = (*order.tags, LOCAL_TAG) if plan.mixed and plan.reach == LOCAL else order.tags
        inline = len(order.body) <= self._config.ingress.inline_body
        return Job(
            id=order.id or os.urandom(16).hex(),
            ingress=self._ingress,
            lane=subjects.CLOUD if alone else subjects.INTERACTIVE,
            model=plan.model,
            endpoint=order.endpoint,
            arrived=round(now * 1000),
            claim_by=round((now + plan.claim) * 1000),
            first_by=round((now + (plan.total if alone else plan.first_token)) * 1000),
            total_by=round((now + plan.total) * 1000),
            stream=order.stream,
            account=order.account,
            key=order.key,
            content_type=order.content_type,
            body=order.body if inline else b"",
            body_size=0 if inline else len(order.body),
            tags=tags,
        )


def _for_providers(job: Job) -> Job:
    return replace(job, lane=subjects.CLOUD, first_by=job.total_by)
