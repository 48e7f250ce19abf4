"""How probes reach an ingress: over HTTP like any client, with the key of the user who asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

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
        kind = self.headers.get("content-type")
        if not (kind or "").startswith(sse.CONTENT_TYPE):
            raise ValueError(f"no event stream, but {kind}")
        splitter = sse.Splitter()
        whole = splitter.feed(self.body) + splitter.rest()
        found = filter(None, map(sse.data_of, sse.split(whole)))
        return [DONE if sse.is_done(data) else orjson.loads(data) for data in found]


Flow = tuple[int, Mapping[str, str], AsyncIterator[bytes]]
"""Status; headers, which may be asked for in lower case; and the body, piece by piece."""
Open = Callable[[Ask], AbstractAsyncContextManager[Flow]]
"""Sends a request. Where the block ends, the client leaves. Raises Away."""


def over_http(base: str, who: Mapping[str, str], session: aiohttp.ClientSession) -> Open:
    """`who`: the headers that say who asks. `base` has neither path nor slash at its end."""

    @asynccontextmanager
    async def ask(asked: Ask) -> AsyncIterator[Flow]:
        headers = dict(asked.headers)
        if asked.body:
            headers["content-type"] = asked.content_type
        if asked.key is None:
            headers |= who
        elif asked.key:
            headers["authorization"] = f"Bearer {asked.key}"
        url, body = base + asked.path, asked.body or None
        try:
            async with session.request(asked.method, url, data=body, headers=headers) as answer:
                yield answer.status, answer.headers, answer.content.iter_any()
        except aiohttp.ClientError as fault:
            raise Away(f"the connection failed: {fault}") from None

    return ask
