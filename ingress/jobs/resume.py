"""Joins a stream that broke with its holder and the rest of it from others.

Only text is continued. The next holder gets what the client has as the beginning of its answer, and
its stream is cut there, so that nothing is repeated and nothing missing. An answer with anything
else in it (tool calls, log probabilities, several choices) is not continued. Thoughts, and a text
behind thoughts, are continued by those who take both apart. Elsewhere, an answer of which only
thoughts came, that the client did not ask to see, begins anew. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from schemas.api import sse
from schemas.api.base import Api, Outline
from schemas.jobs import Begun

LIMIT = 512 * 1024
"""Characters of a text that can be continued: it travels inside of a job."""
_NOTHING = "", ""


class ResumableStream:
    """One stream in parts. `hear` what the client has of it, `break_off` where a part ends, and
    `follow` with the pieces of the next part."""

    def __init__(self, api: Api, thoughts: bool = False) -> None:
        """`thoughts`: they may be continued."""
        self._api = api
        self._takes_thoughts = thoughts
        self._continuation = api.continuation()
        self._heard, self._next = sse.Joiner(), sse.Joiner()
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._hidden = False
        """The client did not ask to see thoughts."""
        self._size = 0
        self.tokens = 0
        """Events with text or thoughts: a worker sends an event for each token."""
        self.plain = True
        """All that was heard is text that can be continued."""
        self.begun: Begun | None = None
        """What the client has, once the stream broke."""

    def hear(self, pieces: Iterable[bytes]) -> None:
        """The client has these pieces, behind the others."""
        for event in sse.split(self._heard.feed(b"".join(pieces))):
            said = self._said(event) if self.plain else None
            if said is None:
                self.plain = False
            elif said != _NOTHING:
                self._keep(*said)

    def _keep(self, text: str, thought: str) -> None:
        """Nobody continues what the client has in another order than thoughts and then text."""
        self.tokens += 1
        self._size += len(text) + len(thought)
        self.plain = self._size <= LIMIT
        if thought:
            self._thoughts.append(thought)
            self.plain = self.plain and not self._texts
        if text:
            self._texts.append(text)
            self.plain = self.plain and (self._takes_thoughts or not self._thoughts)

    def break_off(self, outline: Outline) -> bool:
        """The stream broke behind what was heard. True if it can be continued. `outline`: of what
        the client asked for. A stream without a word begins anew, whatever was asked for."""
        allowed = outline.continues
        # Half an event cannot be taken back, and nothing can follow it.
        if not self.plain or not self._heard.empty or self._continuation.closed:
            return False
        if self._texts and not allowed:
            return False
        self._hidden = not outline.shows_thoughts
        anew = bool(self._thoughts) and not (allowed and self._takes_thoughts)
        if anew and not self._hidden:
            return False
        self._next = sse.Joiner()  # the part before may have ended within an event
        text, thoughts = "".join(self._texts), "".join(self._thoughts)
        self._texts, self._thoughts = _kept(text), _kept(thoughts)
        self.begun = Begun(self.tokens, text, thoughts)
        if anew:
            self._begin_anew()
        return True

    @property
    def providable(self) -> bool:
        """Whether one who takes no begun thoughts can go on with what has broken off."""
        begun = self.begun
        return begun is None or not begun.thoughts or (self._hidden and not begun.text)

    def for_provider(self) -> Begun | None:
        """What one gets who takes no begun thoughts. Only if the stream is `providable`."""
        if self.begun is not None and self.begun.thoughts:
            self._begin_anew()
        return self.begun

    def _begin_anew(self) -> None:
        """The client has thoughts alone: the later parts begin anew, and leave out theirs."""
        self.begun = Begun(0, "")
        self._continuation.begins_anew = True

    def closing(self, outline: Outline) -> bytes:
        """The events that are missing if the client has an event that says that the text is whole;
        empty if it has not, or if more than text may have followed."""
        if not self.plain or not self._heard.empty or not outline.continues:
            return b""
        found = self._continuation.closing(outline, self.tokens)
        return b"".join(sse.dump(each, self._api.named) for each in found)

    def follow(self, piece: bytes, paid: bool) -> bytes:
        """What the client gets for a piece of a later part. `paid`: it comes from a provider, which
        counts the beginning as prompt. A worker does not."""
        events = sse.split(self._next.feed(piece))
        return b"".join(self._followed(event, paid) for event in events)

    def _said(self, event: bytes) -> tuple[str, str] | None:
        """The text and the thoughts of an event that the client has; None if the event cannot be
        continued."""
        try:
            found = sse.load(event)
        except orjson.JSONDecodeError:
            return None
        if found is sse.NOTHING:
            # Nothing follows [DONE].
            return None if sse.is_done(sse.data_of(event) or b"") else _NOTHING
        text = self._continuation.heard(found) if isinstance(found, dict) else None
        return None if text is None else (text, self._continuation.thought)

    def _followed(self, event: bytes, paid: bool) -> bytes:
        """An event of a later part, rewritten to follow. Comments pass unchanged."""
        found = sse.object_of(event)
        if found is None or self.begun is None:
            return event + sse.BREAK
        if paid:
            self._api.move_usage(found, self.begun.tokens, self.begun.tokens)
        told = self._continuation.told(found, self.begun.text)
        return b"".join(sse.dump(each, self._api.named) for each in told)


def _kept(text: str) -> list[str]:
    return [text] if text else []
