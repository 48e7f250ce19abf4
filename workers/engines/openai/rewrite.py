"""Events changed one by one, where an engine's differ from those that OpenAI documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from workers.engines.base import Between, EngineFault, Sink
from workers.engines.openai.usage import Meter, Usage

Event = dict[str, Any]
Change = Callable[[Event], Event | list[Event] | None]
"""Gives back the event as it ought to be; or several for it, or None if it is to be left out."""


class Rewriting(Between):
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
            changed = b"".join(map(self._event, chunk.split(b"\n\n")))
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
        if not self._meant(raw):
            return b"%b\n\n" % raw if raw else b""
        data = raw[raw.find(b"data:") + 5 :].strip()
        if data == b"null":  # llama-server begins a stream for several prompts with it
            return b""
        if not raw.startswith((b"data:", b"event:")) or not data.startswith((b"{", b"[DONE]")):
            return b"%b\n\n" % raw if raw else b""
        if data == b"[DONE]":
            last = self._last() if self._last is not None else None
            return (written(last) if last else b"") + b"data: [DONE]\n\n"
        event = self._change(orjson.loads(data))
        if isinstance(event, list):
            return b"".join(map(written, event))
        return written(event) if event is not None else b""


class Opening(Between):
    """A Sink before the Sink: a choice of a chat begins with empty content, where llama-server's
    begins with null. Replaced as bytes, as quotes inside a JSON string are escaped. After the last
    choice has begun, chunks just pass.

    One whose first token is no whole character (an emoji) begins without a role there: a single
    choice gets it here.
    """

    def __init__(self, inner: Sink, choices: int) -> None:
        super().__init__(inner)
        self._left = choices
        self._alone = choices == 1

    def data(self, chunk: bytes) -> None:
        if self._left > 0:
            found = chunk.count(_NULL)
            if not found and self._alone and chunk.startswith(b"data: {"):
                chunk, found = _opening(chunk) + chunk, 1
            self._left -= found
            chunk = chunk.replace(_NULL, _EMPTY)
        self._inner.data(chunk)


def _opening(chunk: bytes) -> bytes:
    """The event that is missing before the first one of `chunk`; nothing if that has a role."""
    data = chunk.partition(b"\n\n")[0].removeprefix(b"data:").strip()
    if b'"role":' in data:
        return b""
    first = orjson.loads(data)
    top = {key: first[key] for key in _TOP if key in first}
    delta = {"role": "assistant", "content": ""}
    return written({"choices": [{"finish_reason": None, "index": 0, "delta": delta}], **top})


_NULL = b'"delta":{"role":"assistant","content":null}'
_EMPTY = b'"delta":{"role":"assistant","content":""}'


class Discard:
    """In place of a Sink, where what passes is wanted for what it says alone."""

    def __init__(self, inner: Sink) -> None:
        self.touch = inner.touch
        self.settle = inner.settle

    def start(self, status: int, content_type: str) -> None: ...

    def data(self, chunk: bytes) -> None:
        self.touch()


def written(event: Event) -> bytes:
    """Its name is its `type`, where it has one."""
    name = event.get("type")
    head = b"event: %b\n" % str(name).encode() if name else b""
    return b"%bdata: %b\n\n" % (head, orjson.dumps(event))


COUNTS = b'"usage"', b'"timings"', b"data: null", b"[DONE]"
"""Signs of the events that `OneUsage` is about. Inside a text, the quotes would be escaped."""


class OneUsage:
    """One count of tokens for all choices, and behind them, if it is wanted: llama-server gives one
    for each of them, and in text completions with the last words, wanted or not."""

    def __init__(self, choices: int, wanted: bool) -> None:
        self._meter = Meter(choices)
        self._wanted = wanted
        self._top: Event = {}

    def change(self, event: Event) -> Event | None:
        self._meter.add(event)
        self._top = self._top or {key: event[key] for key in _TOP if key in event}
        if not event.get("choices"):
            return None
        event.pop("usage", None)
        return event

    def usage(self) -> Usage | None:
        return self._meter.total()

    def last(self) -> Event | None:
        usage = self._meter.document() if self._wanted else None
        return {"choices": [], **self._top, "usage": usage} if usage else None


_TOP = ("created", "id", "model", "system_fingerprint", "object")
