"""From frames to the client: one JSON document, or an event stream.

The head of a response is sent once, and only when the upstream's status is known or the first
keep-alive is due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingress.answer import headers as answer_headers
from ingress.answer.access_log import record
from ingress.answer.fanout import Joined
from ingress.answer.schema_gate import SchemaGate
from ingress.http.error_format import error_of, refusal_event
from ingress.http.protocol import CLIENT_GONE, PROBE
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.state import Received, plain
from ingress.jobs.ticket import Ticket
from schemas import errors, metrics
from schemas.api import sse
from schemas.api.base import Api
from schemas.errors import ClientGone, HeadraceError
from schemas.frames import Claim, Start

KEEP_ALIVE = sse.comment("keep-alive")


class EventStream(EventSourceResponse):
    """sse-starlette's response, sent by the request's own task.

    The original runs four tasks for each stream (sender, pinger, two listeners), 0.4 ms of CPU
    measured, and ends streams at once when the server is told to stop. Here the content sends the
    keep-alives, the protocol tells of clients that left, and a drain lets streams finish.
    """

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Leave out the header `connection`: the protocol writes it."""
        kept = {name: value for name, value in (headers or {}).items() if name != "connection"}
        super().init_headers(kept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        async for piece in self.body_iterator:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class News:
    """Lets the one task that answers a request wait for its tickets, which know nothing of
    tasks."""

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self._waiter: asyncio.Future[None] | None = None
        for ticket in tickets:
            ticket.listen(self.tell)

    async def wait(self) -> None:
        """Wait until something happens that the client may care for."""
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def tell(self) -> None:
        """Let `wait` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


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
    ) -> None:
        """`name`: the model as the client names it. `gate`: judges the stream. `room`: bytes of a
        stream that are held back until it has ended, so that it can begin anew."""
        self._id: str = request.state.id
        self._dispatch = dispatch
        self._tickets = tickets
        self._name = name
        self._api = api
        self._gate = gate
        self._room = room
        self._closed = False
        self._early = False
        """The head was sent before it was known who answers."""
        self._told: Claim | None = None
        """Who answers, as the client was told last."""
        self.headers = {"x-request-id": self._id}
        if api.request_id_header:
            self.headers[api.request_id_header] = self._id
        self._news = News(tickets)
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
            return self._document()
        except HeadraceError as error:
            self._close(error.status)
            raise
        except asyncio.CancelledError:
            self._close(ClientGone.status)
            raise
        except Exception:
            self._close(errors.Internal.status)
            raise

    async def _stream(self, keepalive: float) -> Response:
        answer = self._answer
        # When the time is up the head can wait no longer: errors become events from here on.
        with suppress(TimeoutError):
            async with asyncio.timeout(keepalive):
                while answer.head is None and not answer.done:
                    await self._news.wait()
        # A text that is paid for goes out before the error behind it.
        head = answer.head if answer.owed else self._head()
        if head is not None and not head.content_type.startswith("text/event-stream"):
            await self._whole()
            return self._document()
        self._early = head is None or self._room > 0
        if not self._early:  # before a head, the holder may still lose the job to another
            self.headers.update(self._served_by())
        return EventStream(self._events(keepalive), headers=self.headers)

    async def _whole(self) -> None:
        while not self._answer.done:
            await self._news.wait()

    def _document(self) -> Response:
        head = self._head()
        assert head is not None
        body = self._answer.take()
        self.headers.update(self._served_by())
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
            why = "the worker ended its answer without a head"
            return errors.EngineFailed(why, source="worker")
        return self._answer.error

    async def _events(self, keepalive: float) -> AsyncIterator[bytes]:
        status, last, gate = 200, b"", self._gate
        try:
            async with aclosing(self._pieces(keepalive)) as pieces:
                async for piece in pieces:
                    last = piece if piece is not KEEP_ALIVE else last
                    if passed := piece if gate is None else await gate.passed(piece):
                        yield passed
                    if gate is not None and gate.error is not None and len(self._tickets) > 1:
                        break  # the other choices are of no use
            error: HeadraceError | None = gate.error if gate is not None else None
            # A holder that was lost after the last event has lost nothing of the answer.
            if (fault := self._fault()) is not None and sse.end_of(last) < 0:
                error = fault
            if error is not None:
                status = error.status
                metrics.ERRORS.labels(error.code).inc()
                yield self._api.error_event(error.fields(), status, self._id)
            elif self._answer.head is not None:
                status = self._answer.head.status
        except (GeneratorExit, asyncio.CancelledError):
            status = ClientGone.status
            raise
        finally:
            self._close(status)

    async def _pieces(self, keepalive: float) -> AsyncGenerator[bytes]:
        """Whole events as they come, and a comment whenever none came for a while."""
        answer = self._answer
        clock = _Alarm(keepalive, self._news.tell)
        self._state[PROBE] = clock.ring  # a comment at once, to see whether the client listens
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
                elif clock.rang():
                    yield KEEP_ALIVE
                else:
                    await self._news.wait()
        finally:
            clock.stop()

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

    def _late_name(self) -> bytes:
        """Who answers and at what cost, as comments, if the head was sent too early for that."""
        first = self._tickets[0]
        latest = first.custody.latest if first.received.resuming else self._told
        if not self._early and self._told is latest:
            return b""
        self._early, self._told = False, latest
        self.headers.update(served := self._served_by())
        return answer_headers.comments(served)

    def _close(self, status: int) -> None:
        if self._closed:
            return
        self._closed = True
        for ticket in self._tickets:
            self._dispatch.close(ticket)
            record(ticket, self._name, status, self._id)


class _Alarm:
    """Calls `ring` after `seconds` without `reset`. A reset only notes the time, as it comes with
    each piece; the one timer looks at this when it fires, and is set again for what is left."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._rang = False
        self._timer = self._loop.call_later(seconds, self._fire)

    def reset(self) -> None:
        self._since = self._loop.time()

    def ring(self) -> None:
        self._rang = True
        self._ring()

    def rang(self) -> bool:
        rang, self._rang = self._rang, False
        return rang

    def stop(self) -> None:
        self._timer.cancel()

    def _fire(self) -> None:
        left = self._since + self._seconds - self._loop.time()
        if left <= 0:
            self.reset()
            left = self._seconds
            self.ring()
        self._timer = self._loop.call_later(left, self._fire)
