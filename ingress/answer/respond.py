"""From frames to the client: one JSON document, or an event stream.

The head of a response is sent once, and only when the upstream's status is known or the first
keep-alive is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from operator import attrgetter

from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import headers as answer_headers
from ingress.answer.access_log import record
from ingress.answer.fanout import Joined
from ingress.answer.schema_gate import SchemaGate
from ingress.http.error_format import error_of, refusal_event
from ingress.http.protocol import CLIENT_GONE, PROBE
from ingress.http.streamed import EventStream, Straight
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.state import Received, plain
from ingress.jobs.ticket import Ticket
from ingress.limits.permit import Permit
from ingress.traced import SERVED, Served
from schemas import errors, metrics
from schemas.api import sse
from schemas.api.base import Api
from schemas.api.piecewise_write import IN_THREAD, joined
from schemas.errors import ClientGone, HeadraceError, QueueFull
from schemas.frames import Claim, Start

KEEP_ALIVE = sse.comment("keep-alive")
Soon = Callable[[Callable[[], None]], object]
NOTICE = 1.0
"""Seconds in a queue after which a client is told of that, and between two such comments."""


class News:
    """Lets the one task that answers a request wait for its tickets, which know nothing of
    tasks."""

    def __init__(self, tickets: Sequence[Ticket], soon: Soon | None = None) -> None:
        """`soon`: calls something once all is here that comes now."""
        self._call_soon = soon or asyncio.get_running_loop().call_soon
        self._waiter: asyncio.Future[None] | None = None
        self._first: Callable[[], bool] | None = None
        self._soon = False
        for ticket in tickets:
            ticket.listen(self.tell)

    async def wait(self, first: Callable[[], bool] | None = None) -> None:
        """Wait until something happens that the client may care for. If `first` sees to it, at the
        end of the turn, the task goes on waiting: to wake it up costs more than all the rest."""
        self._first = first
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def tell(self) -> None:
        """Let `wait` return."""
        if self._waiter is not None and not self._waiter.done():
            if self._first is None:
                self._waiter.set_result(None)
            elif not self._soon:
                self._soon = True
                self._call_soon(self._look)

    def _look(self) -> None:
        self._soon = False
        first, waiter = self._first, self._waiter
        if waiter is not None and not waiter.done() and not (first is not None and first()):
            waiter.set_result(None)


class Exchange:
    """One request and the tickets of its jobs: waits, answers, then closes and logs each, once."""

    def __init__(
        self,
        request: Request,
        dispatch: Dispatch,
        tickets: Sequence[Ticket],
        name: str,
        api: Api,
        gate: SchemaGate | None = None,
        room: int = 0,
        permit: Permit | None = None,
    ) -> None:
        """`name`: the model as the client names it. `gate`: judges the stream. `room`: bytes of a
        stream that are held back until it has ended, so that it can begin anew. `permit`: what its
        key's limits let it have."""
        self._id: str = request.state.id
        self._dispatch, self._tickets = dispatch, tickets
        self._name, self._api = name, api
        self._gate, self._room = gate, room
        self._permit = permit
        if permit is not None:
            permit.enter(tickets)
        self._closed = self._early = False
        """The head was sent before it was known who answers."""
        self._told: Claim | None = None
        """Who answers, as the client was told last."""
        self.headers = dict.fromkeys(api.id_headers, self._id)
        self._news = News(tickets, dispatch.after_reading)
        self._said, self._last = KEEP_ALIVE, b""
        """The last comment of ours, and the last piece that was none."""
        self._end = b""
        """The end of the stream, once it has come. It goes out behind all that is said."""
        self._clock: _Alarm | None = None
        self._straight: Straight | None = None
        self._answer: Received | Joined = tickets[0].received
        if len(tickets) > 1:
            self._answer = Joined(tickets, api.join(len(tickets)), self.headers)
        self._state = request.scope["state"]
        self._state[CLIENT_GONE] = self._gone

    async def answer(self, keepalive: float) -> Response:
        """The response to the client. Raises the HeadraceError with which the request failed."""
        try:
            if self._tickets[0].job.stream:
                return await self._stream(keepalive)
            await self._whole()
            return await self._document()
        except HeadraceError as error:
            if not isinstance(error, QueueFull):  # it never was in the queue
                error.told = {**self._waited(), **error.told}
            self._close(error.status)
            raise
        except BaseException as fault:
            left = isinstance(fault, asyncio.CancelledError)
            self._close((ClientGone if left else errors.Internal).status)
            raise

    async def _stream(self, keepalive: float) -> Response:
        answer = self._answer
        await self._head_or_silence(keepalive)
        # A text that is paid for goes out before the error behind it.
        head = answer.head if answer.owed else self._head()
        if head is not None and not head.content_type.startswith("text/event-stream"):
            await self._whole()
            return await self._document()
        self._early = head is None or self._room > 0
        if not self._early:  # before a head, the holder may still lose the job to another
            self.headers.update({**self._served_by(), **self._waited()})
        return EventStream(self._events(keepalive), self.headers, self._open)

    def _open(self, straight: Straight | None) -> None:
        self._straight = straight if self._gate is None and len(self._tickets) == 1 else None

    async def _head_or_silence(self, keepalive: float) -> None:
        """Wait for the head. When the time is up, or there is something to say of the queue, it
        can wait no longer: errors become events from then on."""
        answer, left = self._answer, keepalive
        while answer.head is None and not answer.done and left > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, NOTICE)):
                    while answer.head is None and not answer.done:
                        await self._news.wait()
            left = 0 if self._queued() else left - NOTICE

    async def _whole(self) -> None:
        while not self._answer.done:
            await self._news.wait()

    async def _document(self) -> Response:
        head, answer = self._head(), self._answer
        assert head is not None
        if isinstance(answer, Joined) and head.status == 200:
            body = await answer.document()
        elif isinstance(answer, Joined) or answer.buffered <= IN_THREAD:
            body = answer.take()
        else:
            body = await joined(answer.take_parts())
        self.headers.update({**self._served_by(), **self._waited()})
        if (cached := self._cached()) >= 0:
            self.headers[answer_headers.CACHED_TOKENS] = str(cached)
        self._close(head.status)
        headers = {**self.headers, "content-type": plain(head.content_type)}
        if head.status != 200:
            by = next(ticket for ticket in self._tickets if ticket.received.head is head)
            headers[answer_headers.ERROR_SOURCE] = answer_headers.source(by)
            if error := error_of(body):
                body = self._api.error_document(error, head.status, self._id)
        return Response(body, head.status, headers)

    def _head(self) -> Start | None:
        """The head; None if it is not here yet. Raises the HeadraceError that came instead."""
        if (fault := self._fault()) is not None:
            raise fault
        return self._answer.head

    def _fault(self) -> HeadraceError | None:
        if self._answer.done and self._answer.head is None and self._answer.error is None:
            return errors.EngineFailed("the worker's answer ended without a head", source="worker")
        return self._answer.error

    async def _events(self, keepalive: float) -> AsyncIterator[bytes]:
        status, gate = 200, self._gate
        try:
            async with aclosing(self._pieces(keepalive)) as pieces:
                async for piece in pieces:
                    self._last = piece if piece is not self._said else self._last
                    passed = piece if gate is None else await gate.passed(piece)
                    if passed := self._without_end(passed):
                        yield passed
                    if gate is not None and gate.error is not None and len(self._tickets) > 1:
                        break  # the other choices are of no use
            error: HeadraceError | None = gate.error if gate is not None else None
            # A holder that was lost after the last event has lost nothing of the answer.
            if (fault := self._fault()) is not None and sse.end_of(self._last) < 0:
                error = fault
            if error is not None:
                status = error.status
                metrics.ERRORS.labels(error.code).inc()
                yield self._api.error_event(error.fields(), status, self._id)
            elif self._answer.head is not None:
                status = self._answer.head.status
                if rest := self._read_from_cache() + self._end:
                    yield rest
        except (GeneratorExit, asyncio.CancelledError):
            status = ClientGone.status
            raise
        finally:
            self._close(status)

    def _without_end(self, piece: bytes) -> bytes:
        """`piece` without ``[DONE]`` if something may come behind it: there are clients that look
        for it in the last line."""
        if not piece.endswith(sse.DONE):
            return piece
        if self._answer.ended is not None and not self._read_from_cache():
            return piece
        self._end = sse.DONE
        return piece[: -len(sse.DONE)]

    async def _pieces(self, keepalive: float) -> AsyncGenerator[bytes]:
        """Whole events as they come, and a comment whenever none came for a while."""
        answer = self._answer
        self._clock = clock = _Alarm(keepalive, self._news.tell)
        self._state[PROBE] = clock.ring  # a comment at once, to see whether the client listens
        if self._queued():
            clock.ring()
        try:
            while not answer.done or answer.buffered:
                if answer.head is not None and answer.head.status != 200:
                    # The head was sent as 200: once it is whole, the refusal becomes an event.
                    if answer.ended is not None:
                        yield refusal_event(self._api, answer.take(), answer.head.status, self._id)
                    elif answer.done:
                        return
                    else:
                        await self._news.wait()
                elif answer.buffered and not (self._room and self._held()):
                    clock.reset()
                    if piece := answer.take():  # joined events may come to nothing
                        if late := self._late_name():
                            yield late
                        yield piece
                elif clock.rings:
                    clock.rings = False
                    queued = self._queued()
                    clock.every(min(NOTICE, keepalive) if queued else keepalive)
                    self._said = queued or KEEP_ALIVE
                    yield self._said
                else:
                    await self._news.wait(self._pass_on if self._straight else None)
        finally:
            clock.stop()

    def _pass_on(self) -> bool:
        """Give the client what has come. False if that is not all there is to do."""
        answer, clock, straight = self._answer, self._clock, self._straight
        if straight is None or clock is None or clock.rings or self._room or self._early:
            return False
        if answer.done or not answer.buffered or self._tickets[0].received.resuming:
            return False
        if answer.head is None or answer.head.status != 200 or not straight.ready:
            return False
        clock.reset()
        self._last = answer.take()
        if piece := self._without_end(self._last):
            straight.write(piece)
        return True

    def _held(self) -> bool:
        """Whether the stream is still held back. Once it is more than there is room for, it is
        passed on as it comes."""
        if not self._answer.done and self._answer.buffered < self._room:
            return True
        self._room = 0
        return False

    def _gone(self) -> None:
        for ticket in self._tickets:
            ticket.fail(ClientGone("the client left"))

    def _served_by(self) -> dict[str, str]:
        found = [ticket.received.served_by(ticket.node) for ticket in self._tickets]
        return found[0] if len(found) == 1 else answer_headers.joined(found)

    def _cached(self) -> int:
        """Tokens of the prompt that engines had in their caches; -1 if none says so."""
        ends = [end for each in self._tickets if (end := each.received.ended) is not None]
        told = [end.cached_tokens for end in ends if end.cached_tokens >= 0]
        return sum(told) if told else -1

    def _read_from_cache(self) -> bytes:
        """The same as a comment, if it is more than none."""
        cached = self._cached()
        if cached <= 0:
            return b""
        return answer_headers.comments({answer_headers.CACHED_TOKENS: str(cached)})

    def _queued(self) -> bytes:
        """A comment while one of the jobs waits in a queue, else b""."""
        places = self._dispatch.line.places
        waiting = [each.job.id for each in self._tickets if each.holder is None]
        found = [places[job] for job in waiting if job in places]
        if not found:
            return b""
        return answer_headers.queued(max(found, key=attrgetter("position")), time.monotonic())

    def _waited(self) -> dict[str, str]:
        """For how long the request was in the queue, and its place when it came, as headers."""
        now, seen, waited, place = time.monotonic(), self._dispatch.line.began, 0.0, 1
        for ticket in self._tickets:
            waited = max(waited, (ticket.times.claimed or now) - ticket.times.queued)
            place = max(place, seen.get(ticket.job.id, 1))
        position = {answer_headers.QUEUE_POSITION: str(place)}
        return {answer_headers.QUEUE_WAIT: f"{waited:.3f}", **position}

    def _late_name(self) -> bytes:
        """Who answers and at what cost, as comments, if the head was sent too early for that."""
        first = self._tickets[0]
        latest = first.custody.latest if first.received.resuming else self._told
        if not self._early and self._told is latest:
            return b""
        waited = self._waited() if self._early else {}
        self._early, self._told = False, latest
        self.headers.update(served := self._served_by())
        return answer_headers.comments({**served, **waited})

    def _close(self, status: int) -> None:
        if self._closed:
            return
        self._closed = True
        # What the request's state holds leads back to it: body and answer would stay for the
        # collector, which comes after many such requests.
        self._state.pop(CLIENT_GONE, None)
        self._state.pop(PROBE, None)
        served: Served | None = self._state.get(SERVED)
        for ticket in self._tickets:
            self._dispatch.close(ticket)
            ended = record(ticket, self._name, status, self._id)
            self._dispatch.ended.append(ended)
            if served is not None:
                served.add(ended, ticket)
        if self._permit is not None:
            self._permit.leave(self._tickets)


class _Alarm:
    """Calls `ring` after `seconds` without `reset`. A reset only notes the time, as it comes with
    each piece; the one timer looks at this when it fires, and is set again for what is left."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self.rings = False
        self._timer = self._loop.call_later(seconds, self._fire)

    def reset(self) -> None:
        self._since = self._loop.time()

    def every(self, seconds: float) -> None:
        """Ring after so many seconds without a reset from now on."""
        if seconds != self._seconds:
            self._seconds = seconds
            self.stop()
            self._fire()

    def ring(self) -> None:
        self.rings = True
        self._ring()

    def stop(self) -> None:
        self._timer.cancel()

    def _fire(self) -> None:
        left = self._since + self._seconds - self._loop.time()
        if left <= 0:
            self.reset()
            left = self._seconds
            self.ring()
        self._timer = self._loop.call_later(left, self._fire)
