"""How the pages ask an ingress: as any client does, with the key of who has signed in."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from schemas import bounds
from schemas.watched import watched

AWAY = "away"
"""The code of a fault if no ingress answers."""
LOOK = 2.0
"""Seconds between two looks whether the ingress is well."""
AGAIN = 1.0
"""Seconds until an address that was not found is looked for again."""
_CONNECT = 3.0
_SILENCE = 60.0
"""Seconds that an answer may pause: a model may think for long before its first token."""
_PROMPT = aiohttp.ClientTimeout(total=10)
"""For whether the ingress is well at all."""
_MOST_ERROR = 64 * 2**10
MOST_ANSWER = 64 * 2**20
"""Bytes of an answer that is not a stream: a few pictures, or a page of any list."""


class EdgeFault(Exception):
    """An ingress refused, or does not answer. `code`: as OpenAI's API has it, or "away"; `status`:
    of HTTP, 0 without an answer; `param`: the field that is wrong. The message is for people."""

    def __init__(self, code: str, message: str, status: int = 0, param: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.param = param

    @property
    def told(self) -> str:
        """What an ingress refused, and the code of that."""
        return self.message if self.code == AWAY else f"{self.message} ({self.code})"


class Doorway:
    """Where the ingress is, for all sessions. `away`: why it is not well, in words; "" if it is.
    `find`: tells its address, and is asked again while it is away; raises EdgeFault."""

    def __init__(self, find: Callable[[], Awaitable[str]]) -> None:
        self._find = find
        self._finding = asyncio.Lock()
        self._fault: EdgeFault | None = None
        self._failed = float("-inf")
        self.url = ""
        self.away = ""
        self.http: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=limit, connector=connector) as self.http:
            looking = asyncio.create_task(watched("ingress", self._look))
            try:
                yield
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def address(self) -> str:
        """Raises EdgeFault."""
        if self.url:
            return self.url
        async with self._finding:  # all pages at once are one question
            if not self.url:
                self.url = await self._found()
            return self.url

    async def _found(self) -> str:
        """Raises EdgeFault."""
        if (known := self._fault) and time.monotonic() - self._failed < AGAIN:
            raise EdgeFault(known.code, known.message, known.status, known.param)
        try:
            return (await self._find()).rstrip("/")
        except EdgeFault as fault:
            self._fault, self._failed = fault, time.monotonic()
            raise

    async def _look(self) -> None:
        while True:
            try:
                async with self.http.get(
                    f"{await self.address()}/healthz", timeout=_PROMPT
                ) as answer:
                    self.away = "" if answer.status == 200 else f"it answers {answer.status}"
            except EdgeFault as fault:
                self.away = fault.message
            except (aiohttp.ClientError, TimeoutError) as fault:
                self.away = f"the ingress at {self.url} does not answer: {_why(fault)}"
                self.url = ""  # it may be at another address by now
            await asyncio.sleep(LOOK)


class Edge:
    """Asks the ingress with one key, which is in no text of this object."""

    def __init__(self, doorway: Doorway, key: str) -> None:
        self._doorway = doorway
        self._headers = {"authorization": f"Bearer {key}"}
        self.digest = hashlib.sha256(key.encode()).hexdigest()
        """The same for the same key."""

    @property
    def url(self) -> str:
        """The address of the ingress, for people and for snippets; "" while none is known."""
        return self._doorway.url

    @property
    def away(self) -> str:
        """Why no ingress is well; "" if one is."""
        return self._doorway.away

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON at `path`, as ``/v1/models``. Raises EdgeFault, as all of these do."""
        return await self._whole("GET", path, query=query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return await self._whole("POST", path, body=body, query=query)

    async def patch(self, path: str, body: Any) -> Any:
        return await self._whole("PATCH", path, body=body)

    async def delete(self, path: str, **query: Any) -> Any:
        return await self._whole("DELETE", path, query=query)

    @contextlib.asynccontextmanager
    async def asking(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        form: aiohttp.FormData | None = None,
        accept: str = "*/*",
        silence: float = _SILENCE,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with a status below 400, with its headers, to be read in the block. `body`:
        sent as JSON; `form`: for uploads. `silence`: seconds that the answer may pause."""
        data: Any = form if body is None else orjson.dumps(body)
        limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=silence)
        headers = {**self._headers, "accept": accept}
        if body is not None:
            headers["content-type"] = "application/json"
        params = {name: _said(value) for name, value in (query or {}).items() if value is not None}
        base = await self._doorway.address()
        try:
            async with self._doorway.http.request(
                method,
                f"{base}{path}",
                data=data,
                headers=headers,
                params=params,
                allow_redirects=False,
                timeout=limit,
            ) as answer:
                if answer.status >= 300:
                    raise _refusal(answer.status, await _beginning(answer.content, _MOST_ERROR))
                yield answer
        except (aiohttp.ClientError, TimeoutError) as fault:
            why = f"The ingress at {base} does not answer: {_why(fault)}."
            raise EdgeFault(AWAY, why) from None

    async def _whole(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        async with self.asking(method, path, body=body, query=query) as answer:
            said = await whole(answer)
        try:
            return orjson.loads(said) if said else None
        except orjson.JSONDecodeError:
            raise EdgeFault(
                "not_json", f"The answer of {path} is no JSON.", answer.status
            ) from None


def part(name: str) -> str:
    """`name` as one part of a path, as in ``/admin/keys/{name}``."""
    return quote(name, safe="")


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def whole(answer: aiohttp.ClientResponse) -> bytes:
    """The body of an answer. Raises EdgeFault if it is larger than a page can have."""
    body = await _beginning(answer.content, MOST_ANSWER + 1)
    if len(body) > MOST_ANSWER:
        why = f"The answer is larger than {MOST_ANSWER // 2**20} MiB. Ask for less at once."
        raise EdgeFault("too_large", why)
    return body


async def _beginning(content: aiohttp.StreamReader, most: int) -> bytes:
    """All of an answer, up to so many bytes: one `read` gives what has come."""
    found = bytearray()
    while len(found) < most and (piece := await content.read(most - len(found))):
        found += piece
    return bytes(found)


def _why(fault: BaseException) -> str:
    return bounds.cut(str(fault)) or "it takes too long"


def _refusal(status: int, said: bytes) -> EdgeFault:
    """What an answer says in the form of OpenAI's errors, or in none."""
    try:
        error = orjson.loads(said)["error"]
        code, param = error.get("code") or error["type"], error.get("param") or ""
        return EdgeFault(code, error["message"], status, param)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return EdgeFault("not_ours", f"It answers {status}, and not as an ingress does.", status)
