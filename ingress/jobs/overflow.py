"""When a job leaves the house: no worker took it in time, or none gave a first byte in time.

A job waits in the queue of its model for a worker. Once it is overdue, a fallback may take it from
there: this process wakes the fallback each second, and the fallback then asks the broker once. A
job that workers must not have any more is moved: it is published again in the lane of providers.
"""

from __future__ import annotations

from contextlib import suppress

import structlog

from ingress.jobs.ticket import Ticket
from ingress.models.catalog import Catalog
from schemas import errors, metrics, subjects
from schemas.bus import Bus, BusError

log = structlog.get_logger("overflow")

WANT_AGAIN = 1.0
"""Seconds after which a fallback is woken again."""
ASK_LATER = 5.0
"""Seconds until providers that did not take a job are asked again, while workers may."""


class Overflow:
    """Decides which jobs go to paid providers, and when."""

    def __init__(self, bus: Bus, catalog: Catalog) -> None:
        self._bus = bus
        self._catalog = catalog

    def overdue_first(self, ticket: Ticket, now: float) -> bool:
        """The first byte is late. True if a provider has the job, or gets it now."""
        if ticket.custody.at_provider or ticket.custody.is_hedged(now):
            return True
        if not self._can(ticket) or ticket.job.lane == subjects.CLOUD:
            return False
        self._move(ticket, "first token", now)
        return True

    def held(self, ticket: Ticket, now: float) -> None:
        """A worker has the job. If the route hedges and the worker is slow, ask a provider, too."""
        patience = ticket.terms.hedge_after
        late = patience and now - ticket.times.claimed > patience
        settled = ticket.postings.copy or ticket.custody.at_provider or ticket.times.first
        if late and not settled and self._can(ticket):
            log.info("job.hedged", job=ticket.job.id)
            metrics.LEFT.labels(metrics.model_label(ticket.job.model), "hedge").inc()
            ticket.postings.publish_copy()

    def waiting(self, ticket: Ticket, waited: float, now: float) -> bool:
        """Nobody has the job. True if a provider may still take it."""
        claim = (ticket.job.claim_by - ticket.job.arrived) / 1000
        if ticket.job.lane == subjects.CLOUD:
            return self._in_the_lane(ticket, waited, claim)
        if not self._can(ticket):
            if ticket.exhausted is not None:
                ticket.give_up()
            return False
        # Until the claim deadline another worker may go on with a stream that broke.
        if ticket.broken is not None and (ticket.exhausted is not None or waited > claim):
            self._move(ticket, "broken stream", now)
        elif ticket.exhausted is not None:
            self._move(ticket, "failures", now)
        elif waited > claim and subjects.is_pinned(ticket.job.lane):
            self._move(ticket, "unclaimed", now)  # fallbacks look into the queue of all nodes alone
        elif waited > claim:
            self._overdue(ticket, now)
        return True

    def _move(self, ticket: Ticket, why: str, now: float) -> None:
        log.info("job.moved", job=ticket.job.id, why=why)
        metrics.LEFT.labels(metrics.model_label(ticket.job.model), why).inc()
        ticket.move(now)

    def _can(self, ticket: Ticket) -> bool:
        if ticket.broken is not None:
            able = ticket.terms.may_leave and ticket.terms.resumers.providers
            able = able and ticket.received.providable
            return able and self._catalog.resumes(ticket.job.model, ticket.job.endpoint)
        return ticket.terms.may_leave and self._catalog.provides(ticket.job.model)

    def _overdue(self, ticket: Ticket, now: float) -> None:
        # Nobody is left who could take the job.
        if ticket.declined is not None and not self._catalog.serves(ticket.job.model):
            ticket.fail(ticket.declined)
            return
        pause = WANT_AGAIN if ticket.declined is None else ASK_LATER
        if now - ticket.times.offered >= pause:
            if not ticket.wanted:
                metrics.LEFT.labels(metrics.model_label(ticket.job.model), "unclaimed").inc()
            ticket.offer(now)
            with suppress(BusError):  # the next sweep after the pause says it again
                # What a fallback sees is the message, which may hold another job.
                message = ticket.postings.newest.message[0]
                self._bus.post(subjects.want(ticket.job.model), message.encode())

    def _in_the_lane(self, ticket: Ticket, waited: float, claim: float) -> bool:
        """The job is for providers alone. Without one it fails: no worker will come for it."""
        model = ticket.job.model
        if self._catalog.provides(model):
            return True
        if waited > claim:
            gone = self._catalog.unprovided() > 0
            what = "no fallback runs" if gone else "the fallback has no provider for it"
            why = f"{ticket.job.asked} is for providers alone now, and {what}. Try again later."
            ticket.fail(ticket.broken or ticket.declined or errors.NoWorker(why, retry_after=5))
        return True
