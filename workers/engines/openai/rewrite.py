"""Changes an engine's events where they differ from the documented ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import orjson

from schemas.api import piecewise, sse
from schemas.api.base import NO_ANSWER, Document, Event
from schemas.api.piecewise import LARGE
from schemas.api.piecewise_write import drop, dump
from workers.engines.base import EngineFault, Sink
from workers.engines.openai.stream import Filter

_THOUGHT = re.compile(rb'"reasoning":\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)
"""Matches only fields: inside a text or a call's arguments the quotes are escaped."""
Change = Callable[[Event], Event | Iterable[Event] | None]
"""Returns what replaces the event: one event, several, or None to leave it out."""


class Rewriting(Filter):
    """A Sink before the Sink that parses each event, changes it and writes it again. `last` returns
    an event to send before ``[DONE]``. `signs`: only events that contain one of these bytes are
    parsed. An event's name is its `type`, if it has one. `document` changes an answer that is no
    stream, in place; without it every answer here is a stream."""

    def __init__(
        self,
        inner: Sink,
        change: Change,
        last: Callable[[], Event | None] | None = None,
        signs: tuple[bytes, ...] = (b"",),
        document: Callable[[Document], None] | None = None,
    ) -> None:
        super().__init__(inner)
        self._change = change
        self._last = last
        self._signs = signs
        self._document = document
        self._streams = True
        self._late = b""
        """A large document, which is changed when there is time to."""
        if document is not None:
            self.start = self._note_kind
            self.settle = self._change_late

    def _note_kind(self, status: int, content_type: str) -> None:
        # An error passes as an event of no kind that is known here.
        self._streams = status != 200 or content_type.startswith(sse.CONTENT_TYPE)
        self._inner.start(status, content_type)

    def data(self, chunk: bytes) -> None:
        """`chunk`: whole events, or the whole document. Raises EngineFault for malformed ones."""
        if self._streams and not self._meant(chunk):
            self._inner.data(chunk)
            return
        if not self._streams and len(chunk) > LARGE:
            self._late = chunk
            return
        try:
            changed = self._rewritten(chunk)
        except NO_ANSWER as fault:
            what = "stream has an event that is none" if self._streams else "answer is none"
            raise EngineFault(f"the engine's {what}: {type(fault).__name__}") from None
        if changed:
            self._inner.data(changed)
        else:
            self._inner.touch()

    async def _change_late(self) -> None:
        if self._late and self._document is not None:
            try:
                found = await piecewise.load(self._late)
                self._document(found)
                self._inner.data(await dump(found))
            except NO_ANSWER as fault:
                why = f"the engine's answer is none: {type(fault).__name__}"
                raise EngineFault(why) from None
            self._late = b""
            await drop(found)
        await self._inner.settle()

    def _rewritten(self, chunk: bytes) -> bytes:
        if self._streams or self._document is None:
            return b"".join(map(self._event, sse.split(chunk)))
        found = orjson.loads(chunk)
        self._document(found)
        return orjson.dumps(found)

    def _meant(self, events: bytes) -> bool:
        return any(sign in events for sign in self._signs)

    def _event(self, raw: bytes) -> bytes:
        found = sse.load(raw) if self._meant(raw) else sse.NOTHING
        if found is None:  # ``data: null``, with which llama-server begins some streams
            return b""
        if isinstance(found, dict):
            changed = self._change(found)
            if changed is None or isinstance(changed, dict):
                return _written([changed])
            return _written(changed)
        if self._last is not None and sse.is_done(sse.data_of(raw) or b""):
            return _written([self._last()]) + sse.DONE
        return raw + sse.BREAK


def _written(events: Iterable[Event | None]) -> bytes:
    return b"".join(sse.dump(each, named="type" in each) for each in events if each is not None)


class Thoughts(Filter):
    """A Sink before the Sink, for whole events or documents of chats. Clients look for thoughts in
    `reasoning_content`, DeepSeek's and llama-server's name. vLLM and Ollama write only `reasoning`,
    so this adds the other field."""

    def data(self, chunk: bytes) -> None:
        if b'"reasoning":' in chunk and b'"reasoning_content"' not in chunk:
            chunk = _THOUGHT.sub(rb'"reasoning_content":\1,\g<0>', chunk)
        self._inner.data(chunk)


class Discard:
    """Takes the place of a Sink and drops the data, for a caller that only reads the events."""

    def __init__(self, inner: Sink) -> None:
        self.touch = inner.touch
        self.settle = inner.settle

    def start(self, status: int, content_type: str) -> None: ...

    def data(self, chunk: bytes) -> None:
        self.touch()
