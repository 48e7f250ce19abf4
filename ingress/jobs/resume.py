"""A stream that broke with its worker, and the rest of it from a provider, as one.

Only text is continued: what the client has is told as an assistant message that the provider goes
on from, and of its stream the beginning is left out, so that nothing is repeated and nothing
missing. An answer with anything else in it (tool calls, reasoning, log probabilities, several
choices) is not continued, nor one that must fit a schema. Pure.
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
    """`add` its pieces, `break_off` where it broke, `add` those of the rest."""

    def __init__(self, endpoint: str) -> None:
        api = APIS.get(endpoint, PLAIN)
        self._continuation = api.continuation()
        self._named = api.named
        self._joiner = sse.Joiner()
        self._kept: list[bytes] = []
        self._size = 0
        self.begun: Begun | None = None
        """What the client has, once the stream broke. Its tokens are the events with text in it: a
        worker sends one for each."""

    def add(self, piece: bytes) -> bytes:
        """What the client gets for a piece of either part."""
        if self.broken:
            return b"".join(map(self._continued, sse.split(self._joiner.feed(piece))))
        self._size += len(piece)
        if self._size <= LIMIT:
            self._kept.append(piece)
        return piece

    def forget(self) -> None:
        """The client gets nothing of it."""
        self._kept.clear()
        self._size = 0

    @property
    def broken(self) -> bool:
        """Whether it broke, and what follows continues it."""
        return self.begun is not None

    def break_off(self) -> bool:
        """The stream broke here: whether it can be continued. It is, once."""
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
        """The text of an event of the first part; None if it says what cannot be continued."""
        try:
            found = sse.load(event)
        except orjson.JSONDecodeError:
            return None
        if found is sse.NOTHING:
            return ""
        return self._continuation.heard(found) if isinstance(found, dict) else None

    def _continued(self, event: bytes) -> bytes:
        """An event of the second part, as it is to follow the first; comments stay."""
        found = sse.object_of(event)
        if found is None:
            return event + sse.BREAK
        told = self._continuation.told(found, self.begun.tokens if self.begun else 0)
        return b"".join(sse.dump(each, self._named) for each in told)
