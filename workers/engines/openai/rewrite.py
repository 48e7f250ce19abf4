"""Changes an engine's events where they differ from the documented ones."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from schemas.api import sse
from schemas.api.base import Event
from workers.engines.base import EngineFault, Sink
from workers.engines.openai.stream import Filter

_THOUGHT = re.compile(rb'"reasoning":\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)
"""Matches only fields: inside a text or a call's arguments the quotes are escaped."""
Change = Callable[[Event], Event | list[Event] | None]
"""Returns what replaces the event: one event, several, or None to leave it out."""


class Rewriting(Filter):
    """A Sink before the Sink that parses each event, changes it and writes it again. `last` returns
    an event to send before ``[DONE]``. `signs`: only events that contain one of these bytes are
    parsed. An event's name is its `type`, if it has one."""

    def __init__(
        self,
        inner: Sink,
        change: Change,
        last: Callable[[], Event | None] | None = None,
        signs: tuple[bytes, ...] = (b"",),
    ) -> None:
        super().__init__(inner)
        self._change = change
        self._last = last
        self._signs = signs

    def data(self, chunk: bytes) -> None:
        """`chunk`: whole events. Raises EngineFault for a malformed one."""
        if not self._meant(chunk):
            self._inner.data(chunk)
            return
        try:
            changed = b"".join(map(self._event, sse.split(chunk)))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError) as fault:
            why = f"the engine's stream has an event that is none: {type(fault).__name__}"
            raise EngineFault(why) from None
        if changed:
            self._inner.data(changed)
        else:
            self._inner.touch()

    def _meant(self, events: bytes) -> bool:
        return any(sign in events for sign in self._signs)

    def _event(self, raw: bytes) -> bytes:
        found = sse.load(raw) if self._meant(raw) else sse.NOTHING
        if found is None:  # ``data: null``, with which llama-server begins some streams
            return b""
        if isinstance(found, dict):
            changed = self._change(found)
            return _written(changed if isinstance(changed, list) else [changed])
        if self._last is not None and sse.is_done(sse.data_of(raw) or b""):
            return _written([self._last()]) + sse.DONE
        return raw + sse.BREAK


def _written(events: list[Event] | list[Event | None]) -> bytes:
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
