"""What stands between a provider's bytes and the sink: nothing is begun before there is an answer,
errors do not pass as answers, and what the client did not ask for is left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from fallback.providers.base import ProviderFault
from fallback.providers.usage import usage_in
from schemas.api.sse import Splitter
from workers.engines.base import Between, Sink

HELD = 32 * 2**20
"""Bytes of one event at most: a picture in base64 has a few million."""
_COMMENT = re.compile(rb"^:.*\n+", re.MULTILINE)
_ERROR = re.compile(
    rb'^(?:event: ?(?:error|response\.failed)\b|data: ?\{"(?:errors?"|type": ?"error")'
    rb'|data: ?\{[^\n]*"finish_reason": ?"error")',
    re.MULTILINE,
)
"""Anthropic's and those of responses; OpenAI's and those like it; OpenRouter's."""
_NULL = b',"usage":null'
"""As OpenAI writes it, in every chunk but the last: looking for this alone takes a tenth."""
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,?')
Blame = Callable[[dict[str, Any]], ProviderFault]
"""What an error object inside a stream means."""


class Listener(Protocol):
    """What counts a stream (`fallback.providers.usage`)."""

    def take(self, chunk: bytes) -> None: ...

    def hear(self, event: Mapping[str, Any]) -> None: ...


class Gate(Between):
    """The outermost Sink: the head goes with the first bytes, so that a provider that fails before
    them has given nothing, and another may answer."""

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner)
        self.started = False
        self._head: tuple[int, str] | None = None
        self.start = self._keep

    def _keep(self, status: int, content_type: str) -> None:
        self._head = (status, content_type)

    def data(self, chunk: bytes) -> None:
        if self._head is not None:
            self._inner.start(*self._head)
            self._head, self.started = None, True
        self._inner.data(chunk)


class Screen(Between):
    """A Sink before the Sink: takes out comments, stops at errors, and listens to usage.

    `strip`: the client did not ask for the usage that we asked for. `workers.engines.openai.ending`
    has a guard for engines; here the error's code decides what follows, so it has to be read.
    """

    def __init__(self, inner: Sink, listener: Listener, blame: Blame, *, strip: bool) -> None:
        super().__init__(inner)
        self._listener = listener
        self._blame = blame
        self._strip = strip

    def data(self, chunk: bytes) -> None:
        """Whole events only. Raises ProviderFault at an error event, after what came before it."""
        if chunk.startswith(b":") or b"\n:" in chunk:
            chunk = _COMMENT.sub(b"", chunk)
        found = _ERROR.search(chunk) if b"error" in chunk or b"response.failed" in chunk else None
        why = self._fault(chunk[found.start() :]) if found is not None else None
        if found is not None and why is not None:
            chunk = chunk[: found.start()]
        self._listener.take(chunk)
        if b'"usage"' in chunk:
            chunk = self._metered(chunk)
        if chunk:
            self._inner.data(chunk)
        else:
            self._inner.touch()
        if why is not None:
            raise why

    def _fault(self, event: bytes) -> ProviderFault | None:
        """None for ``"error": null``."""
        line = event[event.find(b"data:") + 5 :].partition(b"\n")[0]
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            return self._blame({"message": "an error inside the stream"})
        inner = found.get("response") or {}
        if "error" in found and found["error"] is None and found.get("type") != "error":
            return None
        several = found.get("errors") or [None]  # Cloudflare's
        error = found.get("error") or inner.get("error") or several[0] or found
        if usage_in(found):
            self._listener.hear(found)
        return self._blame(error if isinstance(error, dict) else {"message": str(error)})

    def _metered(self, chunk: bytes) -> bytes:
        """Hears the usage in it. What is left if the client is not to see it."""
        if self._strip:
            chunk = chunk.replace(_NULL, b"")
            if b'"usage"' in chunk:
                chunk = _NO_USAGE.sub(b"", chunk)
        if b'"usage"' not in chunk:
            return chunk
        pieces = chunk.split(b"\n\n")
        return b"\n\n".join([kept for piece in pieces if (kept := self._event(piece)) is not None])

    def _event(self, raw: bytes) -> bytes | None:
        """The event as it goes on; None if it is left out."""
        at = raw.find(b"data:")
        if at < 0 or b'"usage"' not in raw:
            return raw
        try:
            event = orjson.loads(raw[at + 5 :])
        except orjson.JSONDecodeError:
            return raw
        if not isinstance(event, dict) or usage_in(event) is None:
            return raw
        self._listener.hear(event)
        if not self._strip or "usage" not in event:
            return raw
        if not event.get("choices"):
            return None
        kept = {name: value for name, value in event.items() if name != "usage"}
        return raw[: at + 5] + b" " + orjson.dumps(kept)


class Feed:
    """From what was read to whole events."""

    def __init__(self) -> None:
        self.events = Splitter()
        self._held = 0

    def whole(self, chunk: bytes) -> bytes:
        """Raises ProviderFault for an event without an end."""
        whole = self.events.feed(chunk)
        self._held = 0 if whole else self._held + len(chunk)
        if self._held > HELD:
            raise ProviderFault("the provider sent an event without an end", "failed")
        return whole
