"""Fetches what a client names by URL, from public addresses alone.

A client's URL could lead into the network of this process (SSRF). So the address itself is checked
when its socket is made: a name cannot resolve to another address after the check (DNS rebinding).
Redirects are followed by hand, and each is checked like the first URL. Nothing of the client's
request is sent along, and nothing is kept: no cookies, no proxy of the environment, no credentials,
no compression, no connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ingress.http.held import Held
from ingress.request.addresses import is_address, is_odd, is_public
from ingress.turns import TooManyWait, Turns
from schemas import settings

log = structlog.get_logger("fetch")

REDIRECTS = 3
PARALLEL, SHARE = 64, 8
"""Fetches at a time, of all requests together, and of those of one key. Others wait."""
WAITING = 512
"""Fetches of one key that may wait."""
MAX_URL = 8192
_REDIRECTING = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"User-Agent": "headrace", "Accept-Encoding": "identity"}
_PIECE = 64 * 1024


class FetchError(Exception):
    """A URL was not fetched. The message is for the client, and continues "The URL …"."""


class NotAllowed(OSError):
    """The address is not public. An OSError, since aiohttp expects one where this is raised."""


@dataclass(frozen=True, slots=True)
class Fetched:
    content: bytes
    content_type: str


class Fetcher:
    """`resolver`: resolves names in place of the system. `public`: which addresses are allowed."""

    def __init__(
        self,
        config: settings.Ingress,
        resolver: AbstractResolver | None = None,
        public: Callable[[str], bool] = is_public,
    ) -> None:
        self._limit = config.fetch_size
        self._timeout = config.fetch_timeout
        self._ports = frozenset(config.fetch_ports)
        self._may = (lambda _: True) if config.fetch_private else public
        self._resolver = resolver
        self._turns = Turns(PARALLEL, SHARE, WAITING)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, kind: str, held: Held) -> Fetched:
        """The content at `url`, whose type has to begin with `kind`. `held`: what the request holds
        for which it is fetched. Raises FetchError, OutOfRoom."""
        if not self._limit:
            raise FetchError("is not fetched: this service takes data URLs alone.")
        checked = self._checked(url)
        try:
            async with asyncio.timeout(self._timeout), self._turns.turn(held.key):
                return await self._follow(checked, kind, held)
        except TooManyWait:
            raise FetchError("is one of too many that are being fetched for this key.") from None
        except TimeoutError:
            why = f"did not answer in full within {self._timeout:g} seconds."
            raise FetchError(why) from None
        except aiohttp.ClientConnectorError as fault:
            if isinstance(fault.os_error, NotAllowed):
                raise FetchError(str(fault.os_error)) from None
            raise FetchError("cannot be reached.") from None
        except (aiohttp.ClientError, ValueError, OSError) as fault:
            log.debug("fetch.failed", error=str(fault))
            raise FetchError("cannot be fetched.") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _follow(self, url: URL, kind: str, held: Held) -> Fetched:
        for _ in range(REDIRECTS + 1):
            async with self._client().get(url, allow_redirects=False) as answer:
                if answer.status not in _REDIRECTING:
                    return await self._read(answer, kind, held)
                place = answer.headers.get("Location", "")
            if not place:
                raise FetchError("redirects to nowhere.")
            url = self._checked(str(url.join(URL(place))))
        raise FetchError(f"redirects more than {REDIRECTS} times.")

    async def _read(self, answer: aiohttp.ClientResponse, kind: str, held: Held) -> Fetched:
        if answer.status != 200:
            raise FetchError(f"answers with status {answer.status}.")
        if not answer.content_type.startswith(kind):
            raise FetchError(f"has the content type {answer.content_type[:64]!r}, not {kind}*.")
        # `_HEADERS` asks for none: what this unpacks to could be larger than the limit.
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FetchError("answers with compressed content.")
        if (answer.content_length or 0) > self._limit:
            raise self._too_large()
        content = bytearray()
        async for piece in answer.content.iter_chunked(_PIECE):
            content += piece
            if len(content) > self._limit:
                raise self._too_large()
            await held.add(len(piece))
        return Fetched(bytes(content), answer.content_type)

    def _too_large(self) -> FetchError:
        return FetchError(f"has more than {self._limit} bytes, the limit here.")

    def _checked(self, text: str) -> URL:
        """The URL in `text`. Raises FetchError if nothing may be sent to it at all."""
        if len(text) > MAX_URL or not text.isprintable() or set(text) & set(" \\"):
            raise FetchError("is not valid.")
        try:
            url = URL(text)
            host, port = url.raw_host, url.port
        except ValueError:
            raise FetchError("is not valid.") from None
        if url.scheme not in ("http", "https") or not host:
            raise FetchError("is no http or https address.")
        if url.raw_user is not None or url.raw_password is not None:
            raise FetchError("holds credentials; they are not sent.")
        if port not in self._ports:
            allowed = ", ".join(map(str, sorted(self._ports)))
            raise FetchError(f"names a port that is not fetched from (allowed: {allowed}).")
        if is_odd(host):
            raise FetchError("spells an address in an unusual way.")
        if is_address(host) and not self._may(host):
            raise FetchError(_NOT_PUBLIC)
        return url

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_Checked(self._resolver or _System(), self._may),
                use_dns_cache=False,  # each name is resolved, and checked, anew
                force_close=True,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # `get` limits the time, of all redirects together.
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    def _socket(self, found: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for one address. This is the last moment to refuse the address."""
        family, kind, protocol, _, address = found
        if not self._may(str(address[0])):
            raise NotAllowed(_NOT_PUBLIC)
        return socket.socket(family, kind, protocol)


_NOT_PUBLIC = "leads to an address that is not public; such are not fetched."


class _System(AbstractResolver):
    """The system's resolver, in threads of its own: names that it takes long for hold up nothing
    else, and the event loop has few threads for all."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(PARALLEL, "names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._pool, ask)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Checked(AbstractResolver):
    """Refuses a name if any of its addresses is not allowed."""

    def __init__(self, inner: AbstractResolver, may: Callable[[str], bool]) -> None:
        self._inner = inner
        self._may = may

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(self._may(each["host"]) for each in found):
            raise NotAllowed(_NOT_PUBLIC)
        return found

    async def close(self) -> None:
        await self._inner.close()
