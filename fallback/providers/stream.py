"""What stands between a provider's stream and the sink: errors do not pass as answers, usage is
counted, and what the client did not ask for is left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from fallback.providers.base import ProviderFault
from fallback.providers.usage import usage_in
from schemas.api import sse
from schemas.api.base import Api
from workers.engines.base import Sink
from workers.engines.http.upstream import Filter

_SIGNS = (b'"usage"', b"error", b"response.failed")
"""What an event holds that has to be read; nearly all others just pass."""
_NULL = b',"usage":null'
"""As OpenAI writes it, in every chunk but the last: looking for this alone takes a tenth."""
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,?')
Blame = Callable[[Mapping[str, Any]], ProviderFault]
"""What an error object inside a stream means."""


class StreamCounter(Protocol):
    """What counts a stream (`fallback.providers.usage`)."""

    def take(self, chunk: bytes) -> None: ...

    def hear(self, usage: Mapping[str, Any], event: Mapping[str, Any]) -> None: ...


class EventFilter(Filter):
    """A Sink before the Sink. `strip`: the client did not ask for the usage that we asked for.

    `workers.engines.http.upstream.Relay` does so for engines; here the error's code decides what
    follows, so it has to be read.
    """

    def __init__(
        self, inner: Sink, api: Api, counter: StreamCounter, blame: Blame, *, strip: bool
    ) -> None:
        super().__init__(inner)
        self._api = api
        self._counter = counter
        self._blame = blame
        self._strip = strip

    def data(self, chunk: bytes) -> None:
        """Whole events only. Raises ProviderFault at an error event, after what came before it."""
        chunk = sse.without_comments(chunk)
        if self._strip and b'"usage"' in chunk:
            chunk = chunk.replace(_NULL, b"")
            if b'"usage"' in chunk:
                chunk = _NO_USAGE.sub(b"", chunk)
        fault = None
        if any(sign in chunk for sign in _SIGNS):
            chunk, fault = self._read(chunk)
        else:
            self._counter.take(chunk)
        if chunk:
            self._inner.data(chunk)
        else:
            self._inner.touch()
        if fault is not None:
            raise fault

    def _read(self, events: bytes) -> tuple[bytes, ProviderFault | None]:
        """What of these goes on, and what the error among them means."""
        going: list[bytes] = []
        for raw in sse.split(events):
            event = _loaded(raw) if any(sign in raw for sign in _SIGNS) else {}
            usage = usage_in(self._api, event)
            if usage is not None:
                self._counter.hear(usage, event)
            if error := self._api.failure(event) or _strange(event):
                return b"".join(going), self._blame(error)
            self._counter.take(raw)
            if usage is None or not self._strip or "usage" not in event:
                going.append(raw + sse.BREAK)
            elif event.get("choices"):
                going.append(sse.dump({k: v for k, v in event.items() if k != "usage"}))
        return b"".join(going), None


def _loaded(raw: bytes) -> dict[str, Any]:
    """The object of an event, whose type is its name where it does not say one; empty for another
    that is no JSON."""
    name = sse.name_of(raw)
    named = {"type": name} if name else {}
    try:
        found = sse.load(raw)
    except orjson.JSONDecodeError:
        return named
    return {**named, **found} if isinstance(found, dict) else {}


def _strange(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The error that an event or a document is, where its API has no such errors: Cloudflare has a
    list of them, and some send bare ones of Anthropic's."""
    several = event.get("errors")
    if isinstance(several, list) and several and isinstance(several[0], dict):
        return several[0]
    return event if event.get("type") == "error" else None
