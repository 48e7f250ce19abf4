"""Joins a stream that broke with its worker and the rest of it from a provider.

Only text is continued. The provider gets what the client has as an assistant message to go on from,
and its stream is cut at the beginning, so that nothing is repeated and nothing missing. An answer
with anything else in it (tool calls, reasoning, log probabilities, several choices) is not
continued, nor is one that must fit a schema. Pure.
"""

from __future__ import annotations

import orjson

from schemas.api import sse
from schemas.api.base import PLAIN
from schemas.api.endpoints import APIS
from schemas.jobs import Begun

LIMIT = 256 * 1024
"""Bytes of events that are kept of one stream; a longer one is not continued."""


class ResumableStream:
    """`add` the pieces of the worker, `break_off` where they end, `add` those of the provider."""

    def __init__(self, endpoint: str) -> None:
        api = APIS.get(endpoint, PLAIN)
        self._continuation = api.continuation()
        self._named = api.named
        self._joiner = sse.Joiner()
        self._kept: list[bytes] = []
        self._size = 0
        self.begun: Begun | None = None
        """What the client has, once the stream broke. Events with text count as its tokens, since a
        worker sends an event for each token."""

    def add(self, piece: bytes) -> bytes:
        """What the client gets for a piece of either part."""
        if self.broken:
            return b"".join(map(self._continued, sse.split(self._joiner.feed(piece))))
        self._size += len(piece)
        if self._size <= LIMIT:
            self._kept.append(piece)
        return piece

    def forget(self) -> None:
        """Drop what was kept: the client does not get it."""
        self._kept.clear()
        self._size = 0

    @property
    def broken(self) -> bool:
        """Whether the stream broke; what is added from then on continues it."""
        return self.begun is not None

    def break_off(self) -> bool:
        """The stream broke here. True if it can be continued, which is done only once."""
        kept = b"".join(self._kept)
        if self.broken or self._size > LIMIT or sse.end_of(kept) >= 0:
            return False
        texts = [self._heard(event) for event in sse.split(kept)]
        if None in texts:
            return False
        self.forget()
        self.begun = Begun(sum(map(bool, texts)), "".join(filter(None, texts)))
        return True

    def _heard(self, event: bytes) -> str | None:
        """The text of an event of the first part; None if the event cannot be continued."""
        try:
            found = sse.load(event)
        except orjson.JSONDecodeError:
            return None
        if found is sse.NOTHING:
            return ""
        return self._continuation.heard(found) if isinstance(found, dict) else None

    def _continued(self, event: bytes) -> bytes:
        """An event of the second part, rewritten to follow the first. Comments pass unchanged."""
        found = sse.object_of(event)
        if found is None:
            return event + sse.BREAK
        told = self._continuation.told(found, self.begun.tokens if self.begun else 0)
        return b"".join(sse.dump(each, self._named) for each in told)
