"""What every engine behind HTTP shares: one client, its faults, and its answer on the way to the
client.

A stream passes as it comes, by whole events. One that does not say that it is over has failed,
whoever sent it, and so has one with an error in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from schemas.api import sse
from schemas.api.base import Api, Usage
from workers.engines.base import EngineFault, Sink
from workers.engines.http.connection import LinkBroken, Links, Response

ERROR_LIMIT = 64 * 1024
"""Bytes of an engine's error body that are read."""
_HEAD = 4096
_ERROR, _USAGE = b'"error"', b'"usage"'
"""What events have with such a field; inside a text, the quotes would be escaped."""


class Upstream:
    """An HTTP client to one engine. Every fault of the transport becomes an EngineFault."""

    def __init__(self, name: str, url: str, api_key: str = "") -> None:
        self.name = name
        # No time-out of its own: the lease and the deadlines decide how long an engine may take.
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url.rstrip("/")
        self._links = Links(self.url, headers)

    async def close(self) -> None:
        self._links.close()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> AsyncIterator[Response]:
        """One request; its connection is closed if the block ends before the answer does."""
        response = None
        try:
            response = await self._links.ask(method, path, body, content_type)
            yield response
        except LinkBroken as fault:
            why = f"{self.name} broke the connection: {fault}"
            raise EngineFault(why, away=True) from None
        except OSError as fault:
            raise EngineFault(f"{self.name} cannot be reached: {fault}", away=True) from None
        finally:
            if response is not None:
                self._links.give_back(response)

    async def ask(
        self, method: str, path: str, timeout: float, body: bytes | None = None, kind: str = ""
    ) -> tuple[int, bytes]:
        """The status and the body of a small answer. Raises EngineFault only if there is none."""
        try:
            async with (
                asyncio.timeout(timeout),
                self.call(method, path, body, kind) as response,
            ):
                return response.status, await response.read()
        except TimeoutError:
            why = f"{self.name} did not answer {path} within {timeout:.0f} s"
            raise EngineFault(why, away=True) from None

    async def post(self, path: str, asked: Any, timeout: float) -> tuple[int, bytes]:
        """Ask with a JSON body."""
        return await self.ask("POST", path, timeout, orjson.dumps(asked), "application/json")

    async def json(self, path: str, timeout: float = 5.0) -> Any:
        """GET a JSON page. Raises EngineFault, also for any status but 200."""
        status, page = await self.ask("GET", path, timeout)
        if status != 200:
            raise EngineFault(f"{self.name} answered {status} to {path}", away=True)
        try:
            return orjson.loads(page)
        except orjson.JSONDecodeError:
            why = f"{self.name} answered {path} with something that is not JSON"
            raise EngineFault(why, away=True) from None


async def read_error(response: Response) -> bytes:
    """The body of an error answer, up to a limit."""
    return await response.read(ERROR_LIMIT)


async def read_whole(response: Response, sink: Sink) -> bytes:
    """The body of an answer; each piece of it is progress."""
    parts = []
    async for chunk in response.pieces():
        parts.append(chunk)
        sink.touch()
    return b"".join(parts)


class Filter:
    """A Sink before the Sink: passes on all but the data, which its subclasses look at."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner
        self.start = inner.start
        self.touch = inner.touch
        self.settle = inner.settle


class Relay:
    """Passes one stream of `engine` on to `sink`.

    An error event fails the attempt instead of passing as an answer: vLLM sends
    ``data: {"error": …}`` and then, as if all were well, ``[DONE]``.
    """

    def __init__(self, engine: str, api: Api, sink: Sink) -> None:
        self._engine = engine
        self._api = api
        self._sink = sink
        self._splitter = sse.Splitter()
        self._head = b""
        """The first bytes: Anthropic's streams tell the prompt's tokens there, and only there."""

    async def run(self, response: Response) -> None:
        """Raises EngineFault, after all that came before the fault has been passed on."""
        try:
            while chunk := await response.readany():
                self._pass(self._splitter.feed(chunk))
        except sse.TooLong as fault:
            raise EngineFault(f"{self._engine} sent {fault}", away=True) from None
        if (rest := self._splitter.rest()) and sse.is_whole(rest):
            self._pass(rest)
        if not (self._splitter.finished or self._api.ended(self._splitter)):
            why = f"{self._engine} ended its stream before its end was said"
            raise EngineFault(why, away=True)

    @property
    def tail(self) -> bytes:
        """At least the last event."""
        return self._splitter.tail

    def usage(self) -> Usage | None:
        """What the first and the last events say that the answer took."""
        told = self._usage_in(sse.having(self.tail, _USAGE))
        if told is None or told.prompt >= 0:
            return told
        start = self._usage_in(sse.split(self._head))
        return Usage(start.prompt, told.completion, start.cached) if start else told

    def _pass(self, events: bytes) -> None:
        if not events:
            self._sink.touch()
            return
        self._head = self._head or events[:_HEAD]
        if _ERROR in events:
            self._find_error(events)
        self._sink.data(events)

    def _find_error(self, events: bytes) -> None:
        """Raises EngineFault if there is one; passes on what comes before it."""
        at = 0
        for event in events.split(sse.BREAK):
            if why := self._error_of(event):
                if at:
                    self._sink.data(events[:at])
                raise EngineFault(f"{self._engine}: {why}")
            at += len(event) + len(sse.BREAK)

    def _error_of(self, event: bytes) -> str:
        """What went wrong; empty if nothing did."""
        if _ERROR not in event:
            return ""
        try:
            found = sse.load(event)
        except orjson.JSONDecodeError:
            return "an error inside the stream"
        error = self._api.error(found) if isinstance(found, dict) else None
        return str(error.get("message", error)) if error else ""

    def _usage_in(self, events: Iterable[bytes]) -> Usage | None:
        """The first that is told in them."""
        for event in events:
            for found in sse.objects(event):
                if usage := self._api.usage(found):
                    return usage
        return None
