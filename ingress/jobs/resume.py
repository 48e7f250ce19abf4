"""Joins a stream that broke with its holder and the rest of it from others.

Only text is continued. The next holder gets what the client has as the beginning of its answer, and
its stream is cut there, so that nothing is repeated and nothing missing. An answer with anything
else in it (tool calls, log probabilities, several choices) is not continued. An answer of which
only thoughts came, that the client did not ask to see, begins anew. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from schemas.api import sse
from schemas.api.base import Api, Request
from schemas.jobs import Begun

LIMIT = 512 * 1024
"""Characters of a text that can be continued: it travels inside of a job."""


class ResumableStream:
    """One stream in parts. `hear` what the client has of it, `break_off` where a part ends, and
    `follow` with the pieces of the next part."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._continuation = api.continuation()
        self._heard, self._next = sse.Joiner(), sse.Joiner()
        self._texts: list[str] = []
        self._size = 0
        self.tokens = 0
        """Events with text: a worker sends an event for each token."""
        self.plain = True
        """All that was heard is text that can be continued."""
        self.begun: Begun | None = None
        """What the client has, once the stream broke."""

    def hear(self, pieces: Iterable[bytes]) -> None:
        """The client has these pieces, behind the others."""
        for event in sse.split(self._heard.feed(b"".join(pieces))):
            text = self._text(event) if self.plain else None
            self._size += len(text or "")
            self.plain = text is not None and self._size <= LIMIT
            if text and self.plain:
                self.tokens += 1
                self._texts.append(text)

    def break_off(self, asked: Request) -> bool:
        """The stream broke behind what was heard. True if it can be continued. `asked`: what the
        client asked for. A stream without a word begins anew, whatever was asked for."""
        begun = bool(self._size) and not self._api.may_continue(asked)
        shown = self._continuation.thoughts and self._api.shows_thoughts(asked)
        # Half an event cannot be taken back, and nothing can follow it.
        if not self.plain or begun or shown or not self._heard.empty or self._continuation.closed:
            return False
        self._next = sse.Joiner()  # the part before may have ended within an event
        self._texts = ["".join(self._texts)]
        self.begun = Begun(self.tokens, self._texts[0])
        return True

    def closing(self, asked: Request) -> bytes:
        """The events that are missing if the client has an event that says that the text is whole;
        empty if it has not, or if more than text may have followed."""
        if not self.plain or not self._heard.empty or not self._api.may_continue(asked):
            return b""
        found = self._continuation.closing(asked, self.tokens)
        return b"".join(sse.dump(each, self._api.named) for each in found)

    def follow(self, piece: bytes, paid: bool) -> bytes:
        """What the client gets for a piece of a later part. `paid`: it comes from a provider, which
        counts the beginning as prompt. A worker does not."""
        events = sse.split(self._next.feed(piece))
        return b"".join(self._followed(event, paid) for event in events)

    def _text(self, event: bytes) -> str | None:
        """The text of an event that the client has; None if the event cannot be continued."""
        try:
            found = sse.load(event)
        except orjson.JSONDecodeError:
            return None
        if found is sse.NOTHING:
            return None if sse.is_done(sse.data_of(event) or b"") else ""  # nothing follows [DONE]
        return self._continuation.heard(found) if isinstance(found, dict) else None

    def _followed(self, event: bytes, paid: bool) -> bytes:
        """An event of a later part, rewritten to follow. Comments pass unchanged."""
        found = sse.object_of(event)
        if found is None or self.begun is None:
            return event + sse.BREAK
        if paid:
            self._api.move_usage(found, self.begun.tokens, self.begun.tokens)
        told = self._continuation.told(found, self.begun.text)
        return b"".join(sse.dump(each, self._api.named) for each in told)
