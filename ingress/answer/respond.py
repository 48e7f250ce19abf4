"""From frames to the client: one JSON document, or an event stream. One head per response, and
none before the upstream's status is known or the first keep-alive is due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.event import ensure_bytes
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingress.answer import headers as answer_headers
from ingress.answer.access_log import record
from ingress.answer.schema_stream import Held
from ingress.http.error_format import error_of, refusal_event
from ingress.http.protocol import GONE
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.ticket import Ticket
from schemas import errors, metrics
from schemas.api.base import Api
from schemas.errors import ClientGone, HeadraceError
from schemas.streams import end_of


class EventStream(EventSourceResponse):
    """sse-starlette's response, sent by the request's own task.

    The original runs four tasks for each stream (sender, pinger, two listeners), 0.4 ms of CPU
    measured, and ends streams at once when the server is told to stop. Here the content sends the
    keep-alives, the protocol tells of clients that left, and a drain lets streams finish.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        async for piece in self.body_iterator:
            body = ensure_bytes(piece, self.sep)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextmanager
def closing_on_fault(close: Callable[[int], None]) -> Iterator[None]:
    """Close the books with the right status if there will be no answer; then go on raising."""
    try:
        yield
    except HeadraceError as error:
        close(error.status)
        raise
    except asyncio.CancelledError:
        close(ClientGone.status)
        raise
    except Exception:
        close(errors.Internal.status)
        raise


class Exchange:
    """One request and the ticket of its job: waits, answers, and closes the books once."""

    def __init__(
        self,
        request: Request,
        dispatch: Dispatch,
        ticket: Ticket,
        name: str,
        api: Api,
        held: Held | None = None,
    ) -> None:
        """`held`: judges the stream."""
        self._request = request
        self._api = api
        self._dispatch = dispatch
        self._ticket = ticket
        self._name = name
        self._held = held
        self._closed = False
        self._early = False
        """The head was sent before it was known who answers."""
        self._torn = False
        """The client was told who continues."""
        self.headers = {"x-request-id": request.state.id}
        if api.request_id_header:
            self.headers[api.request_id_header] = request.state.id
        request.scope["state"][GONE] = self._gone

    async def answer(self, keepalive: float) -> Response:
        """Raises the HeadraceError that became of the job."""
        with closing_on_fault(self._close):
            if not self._ticket.job.stream:
                await self._ticket.whole()
                return self._document()
            return await self._stream(keepalive)

    async def _stream(self, keepalive: float) -> Response:
        ticket = self._ticket
        # When the time is up the head can wait no longer: errors become events from here on.
        with suppress(TimeoutError):
            async with asyncio.timeout(keepalive):
                while ticket.head is None and not ticket.done:
                    await ticket.change()
        if ticket.error is not None and not ticket.owed:
            raise ticket.error
        if ticket.head is not None and not ticket.head.content_type.startswith("text/event-stream"):
            await ticket.whole()
            return self._document()
        self._early = ticket.head is None
        if not self._early:  # else whoever has the job now may yet lose it
            self._name_server()
        return EventStream(self._events(keepalive), headers=self.headers)

    def _document(self) -> Response:
        ticket = self._ticket
        if ticket.error is not None:
            raise ticket.error
        if ticket.head is None:
            raise errors.EngineFailed("the worker ended its answer without a head", source="worker")
        body = ticket.take()
        self._name_server()
        self._close(ticket.head.status)
        headers = {**self.headers, "content-type": answer_headers.plain(ticket.head.content_type)}
        if ticket.head.status != 200:
            headers[answer_headers.ERROR_SOURCE] = answer_headers.source(ticket)
            if error := error_of(body):
                body = self._api.error_document(error, ticket.head.status, self._request.state.id)
        return Response(body, ticket.head.status, headers)

    async def _events(self, keepalive: float) -> AsyncIterator[bytes | ServerSentEvent]:
        ticket = self._ticket
        status, last = 200, b""
        try:
            held = self._held
            async for piece in self._pieces(keepalive):
                last = piece if isinstance(piece, bytes) else last
                if held is None or not isinstance(piece, bytes):
                    yield piece
                elif passed := await held.passed(piece):
                    yield passed
            error: HeadraceError | None = held.error if held is not None else None
            # Who was lost behind the last event has lost nothing of the answer.
            if ticket.error is not None and end_of(last) < 0:
                error = ticket.error
            if error is not None:
                status = error.status
                metrics.ERRORS.labels(error.code).inc()
                yield self._api.error_event(error.fields(), error.status, self._request.state.id)
            elif ticket.head is not None and ticket.head.status != 200:
                status = ticket.head.status
        except (GeneratorExit, asyncio.CancelledError):
            status = ClientGone.status
            raise
        finally:
            self._close(status)

    async def _pieces(self, keepalive: float) -> AsyncIterator[bytes | ServerSentEvent]:
        """Whole events as they come; a comment when none came for a while."""
        ticket = self._ticket
        clock = _Alarm(keepalive, ticket.nudge)
        try:
            while not ticket.done or ticket.buffered:
                if ticket.head is not None and ticket.head.status != 200:
                    # The head was sent as 200: once it is whole, the refusal becomes an event.
                    if ticket.ended is not None:
                        status = ticket.head.status
                        yield refusal_event(
                            self._api, ticket.take(), status, self._request.state.id
                        )
                    elif ticket.done:
                        return
                    else:
                        await ticket.change()
                elif piece := ticket.take():
                    clock.reset()
                    if self._early or (ticket.torn and not self._torn and ticket.notes):
                        yield self._late_name()
                    yield piece
                elif clock.rang():
                    yield ServerSentEvent(comment="keep-alive")
                else:
                    await ticket.change()
        finally:
            clock.stop()

    def _gone(self) -> None:
        self._ticket.fail(ClientGone("the client left"))

    def _name_server(self) -> None:
        self.headers.update(answer_headers.served_by(self._ticket))

    def _late_name(self) -> bytes:
        """What the head could not say, as comments."""
        self._early, self._torn = False, self._ticket.torn
        return answer_headers.comments(answer_headers.served_by(self._ticket))

    def _close(self, status: int) -> None:
        if self._closed:
            return
        self._closed = True
        self._dispatch.close(self._ticket)
        record(self._ticket, self._name, status, self._request.state.id)


class _Alarm:
    """Calls `ring` after `seconds` without `reset`; one timer at a time, re-armed when it fires."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._rang = False
        self._timer = self._loop.call_later(seconds, self._fire)

    def reset(self) -> None:
        self._since = self._loop.time()

    def rang(self) -> bool:
        rang, self._rang = self._rang, False
        return rang

    def stop(self) -> None:
        self._timer.cancel()

    def _fire(self) -> None:
        left = self._since + self._seconds - self._loop.time()
        if left <= 0:
            self._rang = True
            self.reset()
            left = self._seconds
            self._ring()
        self._timer = self._loop.call_later(left, self._fire)
