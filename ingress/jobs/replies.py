"""One wildcard subscription for the frames of all jobs of this ingress, handed to their tickets."""

from __future__ import annotations

import contextlib
import time

import orjson
import structlog

from ingress.jobs.dispatch import Dispatch
from ingress.jobs.ticket import Ticket
from schemas import errors, frames, metrics, subjects
from schemas.api import endpoints
from schemas.bus import Bus, BusError, Message
from schemas.frames import Claim, Op
from schemas.jobs import CodecError, OtherVersion
from schemas.strangers import Strangers

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

    async def open(self) -> None:
        await self._bus.subscribe(subjects.frames(self._ingress, "*"), self._receive)
        await self._bus.subscribe(subjects.body(self._ingress, "*"), self._hand_over)
        self._bus.on_reconnect(self._reconnected)

    def _receive(self, message: Message) -> None:
        ticket = self._dispatch.tickets.get(subjects.job_of(message.subject))
        data = message.data
        try:
            if data[:1] == b"{" or not data:  # the broker's own answer to a publish
                self._answered(message)
                return
            found = frames.unpack(data)
            if ticket is None:
                self._turn_away(message, found)
                return
            now = time.monotonic()
            for frame in found:
                if not ticket.frame(frame, now):
                    metrics.FENCED.inc()
        except OtherVersion as fault:
            self._strangers.refused("a holder", fault, subject=message.subject)
            return
        except (CodecError, TypeError, ValueError, LookupError, AttributeError) as fault:
            log.warning("replies.undecodable", error=str(fault))
            return
        if ticket.received.buffered > self._max_buffer:
            self._check_size(ticket)

    def _answered(self, message: Message) -> None:
        job, edition = subjects.answered(message.subject)
        ticket = self._dispatch.tickets.get(job)
        if ticket is not None:
            self._dispatch.answered(ticket, edition, message.data)

    def _check_size(self, ticket: Ticket) -> None:
        """A stream fails if its client does not read. A document waits until it is whole, so only
        its size counts."""
        if ticket.job.stream and ticket.job.endpoint not in _PICTURES:
            ticket.fail(errors.ClientTooSlow("the client does not read its answer"))
        elif ticket.received.buffered > self._max_answer:
            why = f"The answer is larger than {self._max_answer} bytes, the limit here."
            ticket.fail(errors.EngineFailed(why, source="worker"))

    def _turn_away(self, message: Message, found: list[frames.Frame]) -> None:
        """Nobody waits for this job any more: it was answered, or its client left. Whoever claims
        it or says that it is alive has not heard of that, and is told. The reply subject of an
        ALIVE names its holder."""
        job = subjects.job_of(message.subject)
        for frame in found:
            if frame.kind == frames.Kind.CLAIM:
                self._dispatch.say(Claim.of(frame.body).holder, Op.GONE, job, frame.nonce)
            elif frame.kind == frames.Kind.ALIVE and message.reply:
                self._dispatch.say(subjects.holder_of(message.reply), Op.GONE, job, frame.nonce)

    def _hand_over(self, message: Message) -> None:
        """Give a piece of a large body to whoever knows the job's id. It goes to inboxes alone:
        with another reply subject an asker could make this process post where the asker may not.
        """
        ticket = self._dispatch.tickets.get(subjects.job_of(message.subject))
        if ticket is None or not subjects.is_inbox(message.reply):
            return
        try:
            at, size = orjson.loads(message.data)
            piece = ticket.body[at : at + size]
        except (ValueError, TypeError) as fault:
            log.warning("replies.undecodable_piece", error=str(fault))
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
