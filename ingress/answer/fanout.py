"""Several choices (`n`) from engines that give one at a time: a job for each, merged into one.

Each job is the request with ``n: 1``; with a `seed`, the k-th gets one of its own (`seeds`), as
otherwise all choices would be the same (llama-server does so for its own). The prompt is counted
once, as OpenAI counts it, and what was generated is summed up. One job that fails fails the
request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from ingress.answer import headers as answer_headers
from ingress.answer.access_log import record
from ingress.answer.merge import Merge
from ingress.answer.respond import EventStream, closing_on_fault
from ingress.answer.schema_stream import Held
from ingress.http.error_format import refusal_event
from ingress.http.protocol import GONE
from ingress.jobs.dispatch import Dispatch
from ingress.jobs.ticket import Ticket
from schemas import errors, metrics
from schemas.api.base import Api
from schemas.errors import ClientGone, HeadraceError

_AHEAD = 4
"""Pieces of each job that wait for a client; more stay with the ticket, which has a limit."""


_ANY = (-1, 2**32 - 1)
"""Words for "draw one": llama-server's, and so Ollama's, beside OpenAI's."""
_LAST = (2**31 - 1, 2**32 - 2, 2**63 - 1, 2**64 - 1)
"""The last seed of an engine that keeps them in so many bits."""


def bodies(asked: Mapping[str, Any], copies: int, room: int) -> list[bytes]:
    """The requests of the single jobs: the very same one, or, where there is a seed, as many that
    differ. Raises BodyTooLarge if those have more than `room` bytes in all."""
    one = {**asked, "n": 1}
    seed, body = asked.get("seed"), orjson.dumps(one)
    if seed is None or seed in _ANY:
        return [body] * copies
    if len(body) * copies > room:
        why = f"With a seed for each of its {copies} choices it has more than {room} bytes."
        raise errors.BodyTooLarge(why, param="n")
    return [orjson.dumps({**one, "seed": each}) for each in seeds(seed, copies)]


def seeds(seed: int, count: int) -> list[int]:
    """`count` of them, the given one first: those that follow it, or those before it where these
    would be none. A seed that means "draw one" means that for all."""
    if seed in _ANY:
        return [seed] * count
    end = seed + count - 1
    back = seed - count + 1 >= -(2**63) and (seed < 0 or any(seed <= last < end for last in _LAST))
    return [seed - index if back else seed + index for index in range(count)]


class FanOut:
    """One request and the tickets of its jobs; `respond.Exchange` is the same for one ticket."""

    def __init__(
        self,
        request: Request,
        dispatch: Dispatch,
        tickets: list[Ticket],
        name: str,
        api: Api,
        held: Held | None = None,
    ) -> None:
        self._request = request
        self._dispatch = dispatch
        self._tickets = tickets
        self._name = name
        self._api = api
        self._held = held
        self._closed = False
        self._merge = Merge(len(tickets))
        self.headers = {"x-request-id": request.state.id}
        request.scope["state"][GONE] = self._gone

    async def answer(self, keepalive: float) -> Response:
        """Raises the HeadraceError that became of a job."""
        with closing_on_fault(self._close):
            if self._tickets[0].job.stream:
                return await self._stream(keepalive)
            await _until(self._tickets, lambda each: each.done, all)
            return self._document()

    async def _stream(self, keepalive: float) -> Response:
        with suppress(TimeoutError):
            async with asyncio.timeout(keepalive):
                await _until(self._tickets, lambda each: each.done or _sound(each), any)
        refused = self._refused()
        if refused is not None:
            return refused
        headers = self._served()
        return EventStream(self._events(keepalive, headers), headers=headers)

    def _document(self) -> Response:
        refused = self._refused()
        if refused is not None:
            return refused
        documents = [orjson.loads(ticket.take()) for ticket in self._tickets]
        headers = {**self._served(), "content-type": "application/json"}
        self._close(200)
        return Response(self._merge.document(documents), 200, headers)

    def _refused(self) -> Response | None:
        """The refusal of the first job that was refused. Raises the error of one that failed."""
        for ticket in self._tickets:
            if ticket.error is not None and not ticket.owed:
                raise ticket.error
            if ticket.ended is not None and ticket.head is None:
                why = "the worker ended its answer without a head"
                raise errors.EngineFailed(why, source="worker")
        for ticket in self._tickets:
            if ticket.head is not None and ticket.ended is not None and not _sound(ticket):
                told = {"content-type": answer_headers.plain(ticket.head.content_type)}
                told[answer_headers.ERROR_SOURCE] = answer_headers.source(ticket)
                headers = {**self._served(), **told}
                body = ticket.take()
                self._close(ticket.head.status)
                return Response(body, ticket.head.status, headers)
        return None

    async def _events(
        self, keepalive: float, said: Mapping[str, str]
    ) -> AsyncIterator[bytes | ServerSentEvent]:
        """`said`: the headers that were sent."""
        queue: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue(_AHEAD * len(self._tickets))
        pumps = [
            asyncio.create_task(_pump(index, ticket, queue))
            for index, ticket in enumerate(self._tickets)
        ]
        status = 200
        try:
            left = len(pumps)
            while left:
                try:
                    async with asyncio.timeout(keepalive):
                        index, piece = await queue.get()
                except TimeoutError:
                    yield ServerSentEvent(comment="keep-alive")
                    continue
                if piece is None:
                    left -= 1
                    if _hopeless(self._tickets[index]):
                        status, event = self._fault(self._tickets[index])
                        yield event
                        return
                elif events := await self._passed(self._merge.chunks(index, piece)):
                    yield events
                if self._held is not None and self._held.error is not None:
                    status, event = self._said(self._held.error)
                    yield event
                    return
            told = answer_headers.together(self._tickets)
            late = {name: value for name, value in told.items() if said.get(name) != value}
            yield answer_headers.comments(late) + self._merge.end()
        except (GeneratorExit, asyncio.CancelledError):
            status = ClientGone.status
            raise
        finally:
            for pump in pumps:
                pump.cancel()
            self._close(status)

    def _fault(self, ticket: Ticket) -> tuple[int, bytes]:
        """(status, event) of a job that failed or was refused after the head was sent."""
        if ticket.error is not None:
            return self._said(ticket.error)
        status = ticket.head.status if ticket.head else 502
        return status, refusal_event(self._api, ticket.take(), status, self._request.state.id)

    def _said(self, error: HeadraceError) -> tuple[int, bytes]:
        metrics.ERRORS.labels(error.code).inc()
        return error.status, self._api.error_event(
            error.fields(), error.status, self._request.state.id
        )

    async def _passed(self, events: bytes) -> bytes:
        return events if self._held is None else await self._held.passed(events)

    def _gone(self) -> None:
        for ticket in self._tickets:
            ticket.fail(ClientGone("the client left"))

    def _served(self) -> dict[str, str]:
        return {**self.headers, **answer_headers.together(self._tickets)}

    def _close(self, status: int) -> None:
        if self._closed:
            return
        self._closed = True
        for ticket in self._tickets:
            self._dispatch.close(ticket)
            record(ticket, self._name, status, self._request.state.id)


async def _until(
    tickets: list[Ticket],
    ready: Callable[[Ticket], bool],
    enough: Callable[[Iterable[bool]], bool],
) -> None:
    """Wait until `enough` (any, all) are `ready`, or one of them failed or was refused."""

    async def watch(ticket: Ticket) -> None:
        while not ready(ticket):
            await ticket.change()

    watches = {asyncio.create_task(watch(ticket)) for ticket in tickets}
    try:
        while not enough(map(ready, tickets)) and not any(map(_hopeless, tickets)):
            _, watches = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in watches:
            task.cancel()


def _hopeless(ticket: Ticket) -> bool:
    return ticket.error is not None or (ticket.done and not _sound(ticket))


def _sound(ticket: Ticket) -> bool:
    return ticket.head is not None and ticket.head.status == 200


async def _pump(index: int, ticket: Ticket, queue: asyncio.Queue[tuple[int, bytes | None]]) -> None:
    while not ticket.done or ticket.buffered:
        if ticket.head is not None and not _sound(ticket):
            if ticket.done:
                break
            await ticket.change()  # the attempt may be lost yet, and the next one be sound
            continue
        if piece := ticket.take():
            await queue.put((index, piece))
        else:
            await ticket.change()
    await queue.put((index, None))
