"""What is told to OpenTelemetry's endpoint by one process.

A request that is over leaves one record. Of each few, spans and measures are made soon, while the
caches have them. A task sends the bytes. What waits is bounded, so an endpoint that is away costs
records, which are counted, and nothing else.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from contextlib import suppress
from contextvars import Context
from importlib import metadata
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import structlog

from schemas import metrics
from schemas.otel.meters import Meters
from schemas.otel.options import METRICS, TRACES, Options
from schemas.otel.spans import Spans
from schemas.settings import SettingsError
from schemas.traces import Trace, new_span, new_trace
from schemas.watched import watched

log = structlog.get_logger("otel")

AT_ONCE = 16
"""Records of which spans are made in one turn of the event loop (measured: 0.2 ms)."""
MANY = 512
"""Requests that are not left to wait any longer; half of those that may wait, if these are few."""
BATCH = 2048
"""Spans of one request to the endpoint, more or less: each request costs 1 ms, whatever it has."""
FIRST, LONGEST = 1.0, 30.0
"""Seconds until a request is sent again, doubled each time up to the longest."""
GIVEN_UP = 60.0
"""Seconds for which spans are sent again."""
LAST_WORDS = 3.0
"""Seconds that the end of a process has for what still waits."""
_AGAIN = frozenset({429, 502, 503, 504})
_SHOWN = 200
_CERTAIN = 2**64


class Record(Protocol):
    def tell(self, spans: Spans, meters: Meters) -> None:
        """Add the spans, if the trace is sampled, and what was measured."""


class Telemetry:
    """`begin` and `ended` are all that requests meet of it."""

    def __init__(self, options: Options) -> None:
        """Raises SettingsError for a file of certificates that cannot be read."""
        self._options = options
        self._below = round(options.ratio * _CERTAIN)
        version = metadata.version("headrace")
        self._spans = Spans(options.resource, version)
        self._meters = Meters(options.resource, version, time.time_ns())
        self._records: list[Record] = []
        self._pieces: deque[tuple[bytes, int, int]] = deque()
        """What waits to be sent, and of how many spans and requests it is."""
        self._waiting = 0
        """Requests that wait: in `_records`, and in `_pieces`."""
        self._enough = min(MANY, max(1, options.most // 2))
        self._few = min(AT_ONCE, self._enough)
        self._many = asyncio.Event()
        secure = any(url.startswith("https:") for url in options.urls.values())
        self._tls = _trust(options.ca) if secure else True
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._told = 0.0
        self._closing = asyncio.Event()
        self._away = False
        self._dropped = 0
        self._context = Context()
        """Of no request."""
        self.spans = TRACES in options.urls
        """Whether spans are told of, and not metrics alone."""

    def begin(self, caller: Trace | None) -> Trace:
        """The place of a new span of this process: under that of the caller, or the first of a new
        trace, of which it is decided here whether it is told of."""
        if not self.spans and caller is not None:
            return caller
        if caller is None:
            (id, span), state = new_trace(), ""
        else:
            id, span, state = caller.id, new_span(), caller.state
        if caller is not None and self._options.by_caller:
            sampled = caller.sampled
        else:
            sampled = self.spans and int(id[16:], 16) < self._below
        return Trace(id, span, sampled, state, sampled)

    def ended(self, record: Record) -> None:
        """Have a record told of, unless too many wait already."""
        if self._waiting >= self._options.most:
            self._drop(1)
            return
        self._waiting += 1
        self._records.append(record)
        if len(self._records) == self._few or self._waiting == self._enough:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._tell, context=self._context)

    def start(self) -> None:
        """Send what comes, until `close`."""
        urls = {signal: _place(url) for signal, url in self._options.urls.items()}
        log.info("otel.on", **urls, sample=self._options.ratio)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._options.timeout),
            connector=aiohttp.TCPConnector(ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._told = time.monotonic()
        self._task = asyncio.create_task(watched("otel", self._run))

    async def close(self) -> None:
        """Send what still waits, for some seconds at most."""
        if self._task is None or self._session is None:
            return
        self._closing.set()
        self._many.set()
        await asyncio.wait({self._task}, timeout=LAST_WORDS)
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._session.close()
        self._task = None
        if self._waiting:
            self._drop(self._waiting)
            self._records.clear()
            self._pieces.clear()
            self._waiting = 0
        if self._dropped:
            log.warning("otel.ended", dropped=self._dropped)

    async def _run(self) -> None:
        while True:
            if self._waiting < self._enough and not self._closing.is_set():
                self._many.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._options.delay):
                        await self._many.wait()
            last = self._closing.is_set()
            self._tell()
            await self._send_spans()
            last = last and not self._waiting
            await self._send_metrics(last)
            if last:
                return

    def _tell(self) -> None:
        """Make spans and measures of what has ended."""
        records, self._records = self._records, []
        for record in records:
            try:
                record.tell(self._spans, self._meters)
            except Exception as fault:
                log.error("otel.not_told", exc_info=fault)
                self._drop(1)
        if spans := len(self._spans):
            self._pieces.append((self._spans.take(), spans, len(records)))
        else:  # they were measured, and that is all
            self._waiting -= len(records)
        if self._waiting >= self._enough:
            self._many.set()

    async def _send_spans(self) -> None:
        """One request, of those that wait."""
        found, spans = list[bytes](), 0
        while self._pieces and spans < BATCH:
            piece, more, requests = self._pieces.popleft()
            found.append(piece)
            spans += more
            self._waiting -= requests
        if not found:
            return
        try:
            await self._surely(b"".join(found), spans)
        except asyncio.CancelledError:  # the process ends; perhaps the endpoint has them
            self._drop(spans, "spans")
            raise

    async def _send_metrics(self, at_once: bool = False) -> None:
        """If it is time. They are sums since the start, so the next ones have what the endpoint did
        not hear."""
        now = time.monotonic()
        if METRICS not in self._options.urls or not (
            at_once or now - self._told >= self._options.interval
        ):
            return
        self._told = now
        pieces = list[bytes]()
        for piece in self._meters.take(time.time_ns()):
            pieces.append(piece)
            await asyncio.sleep(0)
        if pieces:
            await self._post(METRICS, b"".join(pieces))

    async def _surely(self, body: bytes, spans: int) -> None:
        """Send spans, again if that may help; once more, but at once, if the process ends."""
        pause, until = FIRST, time.monotonic() + GIVEN_UP
        while True:
            last = self._closing.is_set()
            if (after := await self._post(TRACES, body)) is None:
                return
            if last or after < 0 or time.monotonic() + pause > until:
                self._drop(spans, "spans")
                return
            await self._send_metrics()  # theirs may be another endpoint
            with suppress(TimeoutError):
                async with asyncio.timeout(max(after, pause)):
                    await self._closing.wait()
            pause = min(LONGEST, pause * 2)

    async def _post(self, signal: str, body: bytes) -> float | None:
        """None once the endpoint has it; else seconds until it may be sent again, or -1 if that is
        of no use."""
        assert self._session is not None
        head = {"Content-Type": "application/x-protobuf", **self._options.headers[signal]}
        try:
            asked = self._session.post(
                self._options.urls[signal], data=body, headers=head, allow_redirects=False
            )
            async with asked as answer:
                if answer.status < 300:
                    self._heard()
                    return None
                said = (await answer.content.read(_SHOWN)).decode(errors="replace")
                self._unheard(signal, f"status {answer.status}: {said}")
                if answer.status not in _AGAIN:
                    return -1.0
                after = answer.headers.get("Retry-After", "")
                return min(LONGEST, float(after)) if after.isdecimal() else 0.0
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            self._unheard(signal, str(fault) or type(fault).__name__)
            return 0.0

    def _unheard(self, signal: str, why: str) -> None:
        """Say so once, until it hears again."""
        if not self._away:
            url = _place(self._options.urls[signal])
            log.warning("otel.away", url=url, why=why)
        self._away = True

    def _heard(self) -> None:
        if self._away:
            log.info("otel.back", dropped=self._dropped)
            self._away, self._dropped = False, 0

    def _drop(self, count: int, what: str = "records") -> None:
        metrics.OTEL_DROPPED.labels(what).inc(count)
        self._dropped += count


def _place(url: str) -> str:
    """An address without what may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _trust(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError) as fault:
        raise SettingsError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: {ca}: {fault}") from None
