"""One subscription for the frames of all jobs of this ingress, and one for what the broker says of
their publishes, handed to their tickets."""

from __future__ import annotations

import contextlib
import time

import orjson
import structlog

from ingress.jobs.dispatch import Dispatch
from ingress.jobs.ticket import Ticket
from schemas import bounds, errors, frames, metrics, subjects
from schemas.api import endpoints
from schemas.bus import Bus, BusError, Message
from schemas.frames import Claim, Frame, Kind, Op
from schemas.jobs import CodecError, OtherVersion
from schemas.strangers import Seldom, Strangers

log = structlog.get_logger("replies")

_PICTURES = frozenset({endpoints.IMAGES.path, endpoints.EDITS.path})
"""Their streams are a few large events at the end, which come faster than a distant client reads.
So they may take as much room as a document."""


class Replies:
    """`max_buffer`: bytes of a stream that may wait for its client. `max_answer`: bytes of a
    document."""

    def __init__(
        self, bus: Bus, ingress: str, dispatch: Dispatch, max_buffer: int, max_answer: int
    ) -> None:
        self._bus = bus
        self._ingress = ingress
        self._dispatch = dispatch
        self._max_buffer = max_buffer
        self._max_answer = max_answer
        self._strangers = Strangers(log, "replies.refused")
        self._seldom = Seldom()

    async def open(self) -> None:
        await self._bus.subscribe(subjects.all_frames(self._ingress), self._receive)
        await self._bus.subscribe(subjects.all_answers(self._ingress), self._stored)
        await self._bus.subscribe(subjects.all_bodies(self._ingress), self._hand_over)
        self._bus.on_reconnect(self._reconnected)

    def _receive(self, message: Message) -> None:
        ticket = self._dispatch.tickets.get(subjects.job_of(message.subject))
        data = message.data
        try:
            now = time.monotonic()
            for frame in frames.unpack(data):
                self._hear(ticket, message, frame, now)
        except OtherVersion as fault:
            self._strangers.refused("a holder", fault, subject=message.subject)
            return
        except (CodecError, TypeError, ValueError, LookupError, AttributeError) as fault:
            self._warn("replies.undecodable", message, error=str(fault))
            return
        if ticket is not None and ticket.received.buffered > self._max_buffer:
            self._check_size(ticket)

    def _hear(self, ticket: Ticket | None, message: Message, frame: Frame, now: float) -> None:
        if frame.kind == Kind.CLAIM:  # it may be for a job that has the message of another
            job, claim = subjects.job_of(message.subject), Claim.of(frame.body)
            if not subjects.are_of(claim.node, claim.holder, subjects.sender_of(message.subject)):
                self._warn("replies.foreign_claim", message, holder=claim.holder)
            elif ticket is not None and self._dispatch.choiceless:
                ticket.claimed(claim, frame.attempt, frame.nonce, now)
            elif not self._dispatch.claims.hear(job, frame, now):
                self._dispatch.say(claim.holder, Op.GONE, job, frame.nonce)
        elif ticket is None:
            self._turn_away(message, frame)
        elif not ticket.frame(frame, now):
            metrics.FENCED.inc()

    def _warn(self, event: str, message: Message, **about: str) -> None:
        """Once a minute for each node: it could fill the disk with lines."""
        node = subjects.sender_of(message.subject)
        if self._seldom.is_time(f"{event} {node}"):
            log.warning(event, node=node, subject=message.subject, **about)

    def _stored(self, message: Message) -> None:
        """The broker has answered one publish of a job."""
        try:
            job, edition = subjects.answered(message.subject)
            ticket, claims = self._dispatch.tickets.get(job), self._dispatch.claims
            if claims.moved:
                ticket, edition = claims.find(job, edition)
            if ticket is not None:
                self._dispatch.answered(ticket, edition, message.data)
        except (TypeError, ValueError, LookupError, AttributeError) as fault:
            log.warning("replies.undecodable_answer", error=str(fault))

    def _check_size(self, ticket: Ticket) -> None:
        """A stream fails if its client does not read. A document waits until it is whole, so only
        its size counts."""
        if ticket.job.stream and ticket.job.endpoint not in _PICTURES:
            ticket.fail(errors.ClientTooSlow("the client does not read its answer"))
        elif ticket.received.buffered > self._max_answer:
            why = f"The answer is larger than {self._max_answer} bytes, the limit here."
            ticket.fail(errors.EngineFailed(why, source="worker"))

    def _turn_away(self, message: Message, frame: Frame) -> None:
        """Nobody waits for this job any more: it was answered, or its client left. Whoever says
        that it is alive has not heard of that, and is told. Its reply subject names the holder, who
        is of the node that has sent this."""
        holder, job = subjects.holder_of(message.reply), subjects.job_of(message.subject)
        own = bounds.is_holder(holder)
        own = own and subjects.home_of(holder) == subjects.sender_of(message.subject)
        if frame.kind == Kind.ALIVE and own:
            self._dispatch.say(holder, Op.GONE, job, frame.nonce)

    def _hand_over(self, message: Message) -> None:
        """Give a piece of a large body to whoever knows the job's id. The broker carries the answer
        to the account of the asker, so its reply subject means nothing here."""
        ticket = self._dispatch.tickets.get(subjects.job_of(message.subject))
        if ticket is None:
            return
        try:
            at, size = orjson.loads(message.data)
            piece = ticket.body[at : at + size]
        except (ValueError, TypeError) as fault:
            self._warn("replies.undecodable_piece", message, error=str(fault))
            return
        with contextlib.suppress(BusError):  # the holder asks again
            self._bus.post(message.reply, piece)

    def _reconnected(self) -> None:
        """Messages may be lost both ways: publish again what is not known to be stored, and ask
        again for frames. This process was deaf meanwhile, so it calls nobody late."""
        now = time.monotonic()
        for ticket in self._dispatch.tickets.values():
            self._dispatch.confirm(ticket)
            ticket.spare(now)
            ticket.ask_resend(now)
