"""The HTTP client for one provider: a pool of kept connections, and faults as ProviderFault.

It uses aiohttp, which speaks TLS; `workers/engines/http/connection.py` is for engines in one's own
network. It follows no redirects: a prompt goes where the config says, and nowhere else. It ignores
the environment's proxies and ``.netrc`` (`trust_env`), which could send a prompt elsewhere or
replace our key. It never repeats a POST by itself, as a call might be paid twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import aiohttp
from aiohttp import ClientResponse, payload
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from fallback.providers.base import ProviderFault
from fallback.providers.secret import Secret
from schemas import settings
from schemas.traces import CURRENT, PARENT
from workers.engines.http import tls

LARGEST = 96 * 2**20
"""Most bytes of one answer: ten pictures in base64 fit in."""
ANNOUNCED = 16
"""Heads of 1xx that may come before an answer's own."""
HEAD_TIME = 10.0
"""Seconds from the first byte of a head to its last. The first may come as late as `silence`."""
CALL = "X-Client-Request-Id"
"""The header with the job's id, by which a call can be found at the provider and in the journal of
credits. OpenAI keeps it for its support; others pass over it."""
_KEPT = 20.0
"""Seconds that an idle connection is kept: less than any of the providers keeps one, so that no
request meets a connection that the provider is closing."""
_PIECE = 256 * 1024
"""Bytes of one write. A write waits while the socket is full, so `sent` is not set early."""


class Body(payload.Payload):
    """A request's body that notes when it is `sent`: from then on the provider may charge for it.
    aiohttp's own payload for bytes writes all at once, and warns above 1 MiB."""

    _default_content_type = "application/octet-stream"
    _autoclose = True  # bytes in memory: nothing has to be closed

    def __init__(self, value: bytes, content_type: str) -> None:
        super().__init__(value, content_type=content_type)
        self._size = len(value)
        self.sent = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        for at in range(0, len(self._value), _PIECE):
            await writer.write(self._value[at : at + _PIECE])
        self.sent = True


class EndlessHead(aiohttp.ClientPayloadError):
    """A head that has too many announcements before it, or takes too long."""


class _Protocol(ResponseHandler):
    """aiohttp bounds how long a provider says nothing, but one that says a byte at a time may take
    hours for a head. It also reads announcements (heads of 1xx) without an end, and lets nobody
    else have a turn while they come. All else of a head it bounds: 128 lines of 8 kB."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.announced = 0
        self._heads = 0
        """How many heads are waited for."""
        self._late: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        if self._heads and self._late is None:
            self._late = self._loop.call_later(HEAD_TIME, self._hang_up)
        super().data_received(data)

    async def read(self) -> tuple[RawResponseMessage, StreamReader]:
        """The next head."""
        if self.announced > ANNOUNCED:
            raise EndlessHead
        self.announced += 1
        self._heads += 1
        try:
            return await super().read()
        finally:
            self._heads -= 1
            if self._late is not None:
                self._late.cancel()
                self._late = None

    def _hang_up(self) -> None:
        self._late = None
        self.set_exception(EndlessHead())


class _Connector(aiohttp.TCPConnector):
    """Makes connections of `_Protocol`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]


class _Response(ClientResponse):
    """Counts announcements anew for each answer."""

    async def start(self, connection: Connection) -> ClientResponse:
        protocol = connection.protocol
        assert isinstance(protocol, _Protocol)
        protocol.announced = 0
        return await super().start(connection)


class ProviderClient:
    """Raises ProviderFault for every fault of a connection."""

    def __init__(self, config: settings.Provider) -> None:
        self._name = config.name
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._secret = Secret("")
        self._keys: dict[str, dict[str, str]] = {}
        """The headers with the key, by header name; made once and never logged."""

    def renew(self, secret: Secret) -> None:
        """Use this key from now on."""
        self._secret, self._keys = secret, {}

    async def open(self, headers: Mapping[str, str]) -> None:
        config = self._config
        # limit=0: no limit here, as `ProviderSlots` already bounds the calls under way.
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ttl_dns_cache=60, keepalive_timeout=_KEPT),
            headers={"Accept-Encoding": "identity", "User-Agent": "headrace", **headers},
            timeout=aiohttp.ClientTimeout(
                total=None,  # a stream may take as long as its job's deadline
                connect=config.connect_timeout,
                sock_connect=config.connect_timeout,
                sock_read=config.silence,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            raise_for_status=False,
            response_class=_Response,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def ask(
        self, url: str, body: Body, key_header: str, job: str
    ) -> AsyncIterator[ClientResponse]:
        """POST with the key in the header `key_header`, or as a bearer token if that is "". If the
        block ends before the answer, the connection is closed at once."""
        if self._session is None:
            raise ProviderFault(f"{self._name} is not open", "failed")
        key = self._keys.get(key_header)
        if key is None:
            key = self._keys[key_header] = self._secret.headers(key_header)
        headers = {**key, CALL: job}
        if (trace := CURRENT.get()) is not None:
            headers[PARENT] = trace.parent
        response: ClientResponse | None = None
        try:
            response = await self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            )
            yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise self._explained(fault) from None
        finally:
            if response is not None:
                response.close()  # of an answer read to its end, the connection is back in the pool

    def _explained(self, fault: Exception) -> ProviderFault:
        name, config = self._name, self._config
        if isinstance(fault, aiohttp.ClientSSLError):
            return _without_tls(name, fault)
        if isinstance(fault, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
            return ProviderFault(f"{name} cannot be reached", "away", detail=str(fault))
        if isinstance(fault, TimeoutError):
            return ProviderFault(f"{name} said nothing for {config.silence:g} s", "away")
        return ProviderFault(f"{name} broke the connection: {type(fault).__name__}", "failed")


def _without_tls(name: str, fault: aiohttp.ClientSSLError) -> ProviderFault:
    """What is wrong with a certificate is told to clients, too, but not of which machine it is."""
    inner = getattr(fault, "certificate_error", None) or getattr(fault, "os_error", None)
    if not isinstance(inner, ssl.SSLError):
        return ProviderFault(f"{name} cannot be reached", "away", detail=str(fault))
    wrong, _ = tls.explained(inner)
    why, hint = tls.reason(inner, f"{fault.host}:{fault.port}")
    said = f"its certificate {wrong}" if wrong else "there is no TLS at its address"
    return ProviderFault(f"{name} cannot be reached: {said}", "away", detail=f"{why}. {hint}")


class Line:
    """The connection of a response. It is asked for before the response is read, as a response
    lets go of it at the end."""

    def __init__(self, response: ClientResponse) -> None:
        connection = response.connection
        self._protocol = connection.protocol if connection is not None else None

    @property
    def cut(self) -> bool:
        """Whether the connection broke. aiohttp takes that for the end of a body that has neither a
        length nor chunks."""
        protocol = self._protocol
        return protocol is not None and isinstance(protocol.exception(), aiohttp.ClientOSError)


async def whole(response: ClientResponse, limit: int = LARGEST) -> AsyncIterator[bytes]:
    """The pieces of a body. Raises ProviderFault past `limit` bytes."""
    size = 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > limit:
            raise ProviderFault(f"an answer of more than {limit >> 20} MiB", "failed")
        yield piece


async def beginning(response: ClientResponse, limit: int) -> bytes:
    """The first `limit` bytes of a body, which is enough of an error."""
    found = b""
    while len(found) < limit and (piece := await response.content.readany()):
        found += piece
    return found[:limit]


async def closing(response: ClientResponse) -> None:
    """Read the end of a body after its last event, so that the connection can be kept. Gives up
    soon on a server that does not end the body."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(0.25):
            while await response.content.readany():
                pass
