"""How probes reach an ingress: as any client does, over HTTP, with the key of who asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import orjson

from schemas.api import sse

JSON = "application/json"
DONE = "[DONE]"


class Away(Exception):
    """The connection failed; the message says how."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `key`: sent in place of the caller's own, none if empty; None: the caller's."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Raises ValueError."""
        return orjson.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of an event stream; ``[DONE]`` as that word. Raises ValueError."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            raise ValueError(f"no event stream, but {self.headers.get('content-type')}")
        splitter = sse.Splitter()
        whole = splitter.feed(self.body) + splitter.rest()
        found = filter(None, map(sse.data_of, sse.split(whole)))
        return [DONE if sse.is_done(data) else orjson.loads(data) for data in found]


Flow = tuple[int, AsyncIterator[bytes]]
"""Status, and the body in the pieces that it comes in."""


class Transport(Protocol):
    async def send(self, ask: Ask) -> Answer:
        """The whole answer. Raises Away."""

    def open(self, ask: Ask) -> AbstractAsyncContextManager[Flow]:
        """The answer as it comes; the client leaves where the block ends. Raises Away."""


class Http:
    """`who`: the headers that say who asks. `base` has neither path nor slash at its end."""

    def __init__(self, base: str, who: Mapping[str, str], session: aiohttp.ClientSession) -> None:
        self._base = base
        self._who = who
        self._session = session

    async def send(self, ask: Ask) -> Answer:
        try:
            async with self._request(ask) as answer:
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status, found, await answer.read())
        except aiohttp.ClientError as fault:
            raise Away(f"the connection failed: {fault}") from None

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[Flow]:
        try:
            async with self._request(ask) as answer:
                yield answer.status, answer.content.iter_any()
                answer.close()
        except aiohttp.ClientError as fault:
            raise Away(f"the connection failed: {fault}") from None

    def _request(self, ask: Ask) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = dict(ask.headers)
        if ask.body:
            headers["content-type"] = ask.content_type
        if ask.key is None:
            headers |= self._who
        elif ask.key:
            headers["authorization"] = f"Bearer {ask.key}"
        url = self._base + ask.path
        return self._session.request(ask.method, url, data=ask.body or None, headers=headers)
