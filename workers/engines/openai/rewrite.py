"""Events that are changed, where an engine's differ from those that are documented."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from schemas.api import sse
from schemas.api.base import Event
from workers.engines.base import EngineFault, Sink
from workers.engines.openai.stream import Filter

_THOUGHT = re.compile(rb'"reasoning":\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)
"""As bytes: inside a text, or the arguments of a call, the quotes around the name are escaped."""
Change = Callable[[Event], Event | list[Event] | None]
"""Gives back the event as it ought to be; or several for it, or None if it is to be left out."""


class Rewriting(Filter):
    """A Sink before the Sink: each event is parsed, changed and written again. `last` gives what is
    said before ``[DONE]``. `signs`: what the events hold that need it; others pass as they are. The
    name of an event is its `type`, where it has one."""

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
        """Whole events only. Raises EngineFault for one that is not what it should be."""
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
        if found is None:  # llama-server begins a stream for several prompts with it
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
    """A Sink before the Sink, for whole events or documents of chats: thoughts have the name that
    clients look for, `reasoning_content`, as DeepSeek named it and llama-server does. vLLM and
    Ollama write `reasoning` alone; theirs stays beside it."""

    def data(self, chunk: bytes) -> None:
        if b'"reasoning":' in chunk and b'"reasoning_content"' not in chunk:
            chunk = _THOUGHT.sub(rb'"reasoning_content":\1,\g<0>', chunk)
        self._inner.data(chunk)


class Discard:
    """In place of a Sink, where what passes is wanted for what it says alone."""

    def __init__(self, inner: Sink) -> None:
        self.touch = inner.touch
        self.settle = inner.settle

    def start(self, status: int, content_type: str) -> None: ...

    def data(self, chunk: bytes) -> None:
        self.touch()
