"""Reads calls out of the text of chats, in streams and in documents. See `parse`."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.api.base import Event
from workers.engines.base import Sink
from workers.engines.llamacpp.tools.parse import Delta, Reader, reader
from workers.engines.llamacpp.tools.prompt import Expected
from workers.engines.openai.rewrite import Rewriting
from workers.engines.openai.stream import Filter

Choice = dict[str, Any]


class CallsInStream(Rewriting):
    """A Sink before the Sink, for a stream of `choices` choices. Once all of them can only be text,
    chunks pass unchanged."""

    def __init__(self, inner: Sink, expected: Expected, choices: int) -> None:
        super().__init__(inner, self._read)
        self._expected = expected
        self._left = choices
        self._choices: dict[int, _Choice] = {}

    def data(self, chunk: bytes) -> None:
        if self._left:
            super().data(chunk)
        else:
            self._inner.data(chunk)

    def _read(self, event: Event) -> Event | list[Event]:
        if not event.get("choices"):
            return event
        once = ("choices", "timings", "usage")
        kept = {name: value for name, value in event.items() if name not in once}
        found: list[Event] = []
        for part in event["choices"]:
            index = part.get("index", 0)
            choice = self._choices.setdefault(index, _Choice(self._expected))
            was = choice.text
            parts = choice.parts(part)
            self._left -= choice.text and not was
            found += [{**kept, "choices": [each]} for each in parts]
        if found:  # what an event says once goes with its last part
            found[-1] |= {name: event[name] for name in once[1:] if name in event}
        return found


class CallsInDocument(Filter):
    """A Sink before the Sink, for a document."""

    def __init__(self, inner: Sink, expected: Expected) -> None:
        super().__init__(inner)
        self._expected = expected

    def data(self, chunk: bytes) -> None:
        document = orjson.loads(chunk)
        for choice in document["choices"]:
            _call_out(choice, reader(self._expected), self._expected.named)
        self._inner.data(orjson.dumps(document))


class _Choice:
    """One choice of a stream."""

    def __init__(self, expected: Expected) -> None:
        self._reader = reader(expected)
        self._named = expected.named
        self._probable: list[Any] = []

    @property
    def text(self) -> bool:
        """Whether the choice has no calls and can only be text."""
        return self._reader.plain and not self._reader.count

    def parts(self, part: Choice) -> list[Choice]:
        """The parts to send in place of this part of the choice."""
        delta = part.get("delta") or {}
        text, reason = delta.get("content"), part.get("finish_reason")
        if (not text and not reason) or self.text:
            return [part]
        self._probable += (part.get("logprobs") or {}).get("content") or ()
        deltas = self._reader.feed(text or "")
        if reason:
            deltas += self._reader.end()
        beside = {name: value for name, value in delta.items() if name != "content"}
        deltas = [beside, *deltas] if beside else deltas
        top = {"finish_reason": None, "index": part.get("index", 0)}
        sent = [{**top, **self._with_logprobs(each)} for each in deltas]
        if reason:
            end = _ended(reason, self._reader, self._named)
            sent.append({**part, "delta": {}, "finish_reason": end})
            sent[-1].pop("logprobs", None)  # those of texts are sent with their texts
        return sent

    def _with_logprobs(self, delta: Delta) -> dict[str, Any]:
        """The delta with the log-probabilities of its text; a call has none."""
        if "content" not in delta and "tool_calls" not in delta:
            return {"delta": delta}
        probable, self._probable = self._probable, []
        if "content" in delta and probable:
            return {"delta": delta, "logprobs": {"content": probable}}
        return {"delta": delta}


def _call_out(choice: Choice, read: Reader, named: bool) -> None:
    message = choice["message"]
    deltas = [*read.feed(message.get("content") or ""), *read.end()]
    text, calls = "", []
    for delta in deltas:
        text += delta.get("content", "")
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                calls.append({name: call[name] for name in ("id", "type", "function")})
            else:
                calls[-1]["function"]["arguments"] += call["function"]["arguments"]
    if calls or not read.plain:
        message["content"] = text or None
        choice["logprobs"] = None
    if calls:
        message["tool_calls"] = calls
    choice["finish_reason"] = _ended(choice.get("finish_reason"), read, named)


def _ended(reason: str | None, read: Reader, named: bool) -> str | None:
    """The finish reason. As at OpenAI, a call that the client named ends with "stop"."""
    return "tool_calls" if reason == "stop" and read.count and not named else reason
