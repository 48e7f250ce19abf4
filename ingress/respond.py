"""From frames to the client: one JSON document, or an event stream. One head per response, and
none before the upstream's status is known or the first keep-alive is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from ingress.dispatch import Dispatch
from ingress.ticket import Ticket
from schemas import errors, metrics
from schemas.errors import ClientGone, HeadraceError

log = structlog.get_logger("request")


class Exchange:
    """One request and the ticket of its job: waits, answers, and closes the books once."""

    def __init__(self, request: Request, dispatch: Dispatch, ticket: Ticket, name: str) -> None:
        self._request = request
        self._dispatch = dispatch
        self._ticket = ticket
        self._name = name
        self._closed = False
        self.headers = {"x-request-id": request.state.id}

    async def answer(self, keepalive: float) -> Response:
        """Raises the HeadraceError that became of the job."""
        gone = asyncio.ensure_future(_left(self._request))
        gone.add_done_callback(self._gone)
        try:
            if not self._ticket.job.stream:
                await self._ticket.whole()
                return self._document()
            return await self._stream(keepalive)
        except HeadraceError as error:
            self._close(error.status)
            raise
        except asyncio.CancelledError:
            self._close(ClientGone.status)
            raise
        finally:
            gone.remove_done_callback(self._gone)
            gone.cancel()

    async def _stream(self, keepalive: float) -> Response:
        ticket = self._ticket
        try:
            async with asyncio.timeout(keepalive):
                while ticket.head is None and not ticket.done:
                    await ticket.change()
        except TimeoutError:
            pass  # the head can wait no longer; errors become events from here on
        if ticket.error is not None:
            raise ticket.error
        if ticket.head is not None and not ticket.head.content_type.startswith("text/event-stream"):
            await ticket.whole()
            return self._document()
        self._name_server()
        return EventSourceResponse(
            self._events(),
            headers=self.headers,
            ping=keepalive,
            ping_message_factory=_keep_alive,
        )

    def _document(self) -> Response:
        ticket = self._ticket
        if ticket.error is not None:
            raise ticket.error
        if ticket.head is None:
            raise errors.EngineFailed("the worker ended its answer without a head", source="worker")
        body = ticket.take()
        self._name_server()
        self._close(ticket.head.status)
        headers = {**self.headers, "content-type": ticket.head.content_type}
        return Response(body, ticket.head.status, headers)

    async def _events(self) -> AsyncIterator[bytes]:
        ticket = self._ticket
        status = 200
        try:
            while True:
                if ticket.head is not None and ticket.head.status != 200:
                    await ticket.whole()
                    status = ticket.head.status
                    yield b"data: " + ticket.take() + b"\n\n"
                    return
                if piece := ticket.take():
                    yield piece
                elif ticket.done:
                    break
                else:
                    await ticket.change()
            if ticket.error is not None:
                status = ticket.error.status
                metrics.ERRORS.labels(ticket.error.code).inc()
                yield b"data: " + ticket.error.json() + b"\n\n"
        except (GeneratorExit, asyncio.CancelledError):
            status = ClientGone.status
            raise
        finally:
            self._close(status)

    def _gone(self, _: asyncio.Future[None]) -> None:
        self._ticket.fail(ClientGone("the client left"))

    def _name_server(self) -> None:
        if self._ticket.node:
            self.headers["x-headrace-served-by"] = f"node:{self._ticket.node}"

    def _close(self, status: int) -> None:
        if self._closed:
            return
        self._closed = True
        self._dispatch.close(self._ticket)
        record(self._ticket, self._name, status, self._request.state.id)


def record(ticket: Ticket, name: str, status: int, request_id: str) -> None:
    """One line a request, and the metrics of it; never what was said."""
    now = time.monotonic()
    job, times, end = ticket.job, ticket.times, ticket.ended
    model = job.model
    metrics.REQUESTS.labels(job.endpoint, model, str(status)).inc()
    metrics.DURATION.labels(model).observe(now - times.queued)
    line: dict[str, object] = {"ms": _ms(now - times.queued)}
    if times.claimed:
        metrics.QUEUE_WAIT.labels(model).observe(times.claimed - times.queued)
        line |= {"queue_ms": _ms(times.claimed - times.queued), "node": ticket.node}
    if times.first:
        metrics.TTFT.labels(model).observe(times.first - times.queued)
        line["ttft_ms"] = _ms(times.first - times.queued)
    if end is not None and end.completion_tokens >= 0:
        metrics.TOKENS.labels(model, "prompt").inc(end.prompt_tokens)
        metrics.TOKENS.labels(model, "completion").inc(end.completion_tokens)
        line |= {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens}
    if ticket.error is not None:
        line |= {"error": ticket.error.code, "why": ticket.error.message}
    log.info(
        "request",
        id=request_id,
        job=job.id,
        key=job.key,
        asked=name,
        model=model,
        endpoint=job.endpoint,
        stream=job.stream,
        status=status,
        attempts=ticket.tries,
        **line,
    )


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _keep_alive() -> ServerSentEvent:
    return ServerSentEvent(comment="keep-alive")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
