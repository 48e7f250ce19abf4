"""Which job a claimed slot is for.

A worker claims with the message that the broker gave it. The message is only its right to a slot:
the job that is first in the fair order gets it. The two jobs exchange their messages then, so each
still has one, and whatever becomes of a message (acked, given back, deleted, delivered again) is
for the job that has it. The claimant gets the job with the answer (`Op.GIVE`).

A worker whose queue was empty behind its job has begun it (`Claim.began`), and keeps it. If it is
the turn of a job at another ingress, the slot is offered there (`peers.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from ingress.jobs.custody import carries, exchanges
from ingress.jobs.fair import FairQueue, Queues
from ingress.jobs.gossip import Offer
from ingress.jobs.state import Message
from ingress.jobs.ticket import Ticket
from schemas import metrics, subjects
from schemas.frames import Claim, Frame, Op


class Others(Protocol):
    """Other ingresses."""

    def offer(self, queue: FairQueue, job: str, frame: Frame) -> bool:
        """Offer a slot to one of them, if it is the turn of a job there. Then its claim is not to
        be answered here."""

    def offer_again(self, nonce: int) -> bool:
        """A claim is repeated: whether its slot was taken elsewhere, which is told of it again."""


class Caches(Protocol):
    """What is known of the engines' caches."""

    def has(self, job: str, claim: Claim) -> bool:
        """Whether a claimant has the prompt of a job in its cache."""


class Claims:
    """`tickets`: by job. `others`: None while this ingress keeps to itself. `caches`: None while it
    makes no difference which engine has a job."""

    def __init__(self, tickets: Mapping[str, Ticket], queues: Queues) -> None:
        self.others: Others | None = None
        self.caches: Caches | None = None
        self._tickets = tickets
        self._queues = queues
        self._owners: dict[Message, Message] = {}
        """Of messages that were exchanged: the job that has one, and as which of its editions."""
        self.moved: defaultdict[str, set[Message]] = defaultdict(set)
        """By job: the messages that `_owners` has for it, also where that is none any more. As long
        as it is empty, each job has its own message, and the slots that are claimed with it."""
        self._guests: dict[int, str] = {}
        """By nonce: jobs that have a slot which was claimed at another ingress."""
        self._stays: dict[str, int] = {}
        """The nonces of these, by job."""

    def find(self, job: str, edition: int) -> tuple[Ticket | None, int]:
        """The ticket that has the message of a job and edition, and which of its own editions that
        is."""
        job, edition = self._owners.get((job, edition), (job, edition))
        return self._tickets.get(job), edition

    def hear(self, job: str, frame: Frame, now: float, alone: bool = False) -> bool:
        """Answer a claim that was sent for `job`. False if nobody waits for that message. `alone`:
        the slot is for a job of this ingress. Not asked where there is no choice, by
        `Dispatch.choiceless`: it would do no more than tell the ticket then."""
        if self.others is not None and self.others.offer_again(frame.nonce):
            return True
        claim = Claim.of(frame.body)
        ticket, edition = self.find(job, claim.edition)
        if ticket is None:
            return False
        if (ticket.job.id, edition) != (job, claim.edition):
            claim = replace(claim, edition=edition, swapped=True)
        if claim.began and claim.swapped:  # before it was heard, another job got the message
            ticket.custody.answer(claim, frame.nonce, Op.LEAVE)
            return True
        if not claim.began and exchanges(ticket) and carries(ticket, claim, frame):
            queue = self._queues.of(ticket.job.model, ticket.postings.newest.lane)
            if not (alone or claim.by_provider) and self._is_offered(queue, job, frame):
                return True
            chosen = self._chosen(ticket, claim, queue, now)
            if chosen is not ticket:
                self._exchange(ticket, chosen)
                ticket = chosen
                claim = replace(claim, edition=ticket.job.edition, swapped=True)
        ticket.claimed(claim, frame.attempt, frame.nonce, now)
        return True

    def _is_offered(self, queue: FairQueue, job: str, frame: Frame) -> bool:
        if self.others is None or queue.returned:
            return False
        return self.others.offer(queue, job, frame)

    def take(self, offer: Offer, frame: Frame, now: float) -> bool:
        """Take a slot that was claimed at another ingress, if the turn of a job here is before that
        of all there. False if none is."""
        claim = Claim.of(frame.body)
        job = self._guests.get(frame.nonce)
        again = job is not None
        job = job or self._before(offer, claim, now)
        if job is None:
            return False
        if (ticket := self._tickets.get(job)) is not None:
            if not again:
                ticket.postings.go_with_another()
                self._guests[frame.nonce] = job
                self._stays[job] = frame.nonce
                self.moved.setdefault(job, set())  # so that it is forgotten
            mine = replace(claim, edition=ticket.job.edition, swapped=True)
            ticket.claimed(mine, frame.attempt, frame.nonce, now)
        return True

    def _before(self, offer: Offer, claim: Claim, now: float) -> str | None:
        queue = self._queues.of(offer.model, offer.lane)
        head, theirs = queue.head(), (offer.start, offer.known)
        if not queue.returned:
            if head is None or head[1] == offer.head:
                return None
            if (head[0].start, head[0].known) >= theirs:
                return None
        return self._first(queue, claim, now)

    def gone(self, job: str, frame: Frame, now: float) -> None:
        """Another ingress took the slot that was claimed for `job`, and its message with it: the
        job that had the message is published anew."""
        ticket, edition = self.find(job, Claim.of(frame.body).edition)
        if ticket is not None and ticket.postings.newest.edition == edition:
            ticket.vanished(ticket.postings.newest.sequence, now)

    def forget(self, job: str) -> None:
        """Nobody waits for the job any more."""
        for message in self.moved.pop(job, ()):
            del self._owners[message]
        if (nonce := self._stays.pop(job, None)) is not None:
            self._guests.pop(nonce, None)

    def _chosen(self, owner: Ticket, claim: Claim, queue: FairQueue, now: float) -> Ticket:
        """The job for a slot that is claimed with the message of `owner`."""
        if len(queue) < 2:
            return owner
        if claim.by_provider:
            return self._overdue(owner, map(self._tickets.get, queue))
        found = self._first(queue, claim, now)
        return owner if found is None else self._tickets[found]

    def _first(self, queue: FairQueue, claim: Claim, now: float) -> str | None:
        """The first job that may have the slot: it waits, no other worker is about to claim its
        message, and this one has not lost it before."""
        sequence = _sequence(claim.ack)

        def fits(job: str) -> bool:
            ticket = self._tickets.get(job)
            if ticket is None or not exchanges(ticket):
                return False
            if ticket.postings.newest.in_flight(sequence, now):
                return False
            return not ticket.custody.leaves(ticket.job, claim.holder)

        if (caches := self.caches) is None:
            return queue.choose(fits)
        return queue.choose(fits, lambda job: caches.has(job, claim))

    def _overdue(self, owner: Ticket, waiting: Iterable[Ticket | None]) -> Ticket:
        """The job that has waited longest of those that a provider may have."""
        wanted = [each for each in waiting if each and each.wanted and exchanges(each)]
        return min(wanted, key=lambda each: each.times.freed, default=owner)

    def _exchange(self, one: Ticket, other: Ticket) -> None:
        metrics.GIVEN.labels("this ingress").inc()
        one.postings.exchange(other.postings)
        for ticket in (one, other):
            message = ticket.postings.newest.message
            before = self._owners.get(message, message)[0]
            self.moved[before].discard(message)
            self.moved[ticket.job.id].add(message)
            self._owners[message] = ticket.job.id, ticket.postings.newest.edition


def _sequence(ack: str) -> int:
    """Where the claimed message is in the stream; 0 if the claim does not say so."""
    try:
        return subjects.turn_of(ack)[0]
    except (ValueError, IndexError):
        return 0
