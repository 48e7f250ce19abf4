"""Builds from a streamed llama-server answer the document that it gives without `stream`.

llama-server notices that a client has gone only while it streams. So the worker always streams,
and builds the document here for clients that asked for one. Measured on llama.cpp b11549 and held
by `tests/acceptance/test_aggregate_live.py`:

- `usage` of the engine's document counts choice 0 alone; here it counts all choices, and each
  prompt once (`UsageSum`). This is the only intended difference.
- The engine's document repeats a prefilled assistant message. A stream does so only with `echo`,
  which `prepare` sets, and as the chat template renders it (trimmed, parts joined).
- `content` is null at the head of a stream, but always a string in the document.
- A stream for several prompts may begin with ``data: null``.
- A token without a chunk of its own loses its `logprobs`: the end of the text, the beginning of
  a stop string, syntax that the engine's parser removes (tool calls, reasoning tags).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from schemas.api import sse
from schemas.api.base import Document, Event
from schemas.api.chat.collector import Collector
from workers.engines.base import EngineFault, Sink
from workers.engines.llamacpp.stream import UsageSum
from workers.engines.openai.continued import last_of_assistant
from workers.engines.openai.rewrite import Discard


def prepare(body: Mapping[str, Any]) -> dict[str, Any]:
    """The request to send for a client that asked for one document: it streams, with usage.

    `echo` is set for a prefilled message and nowhere else; all other fields stay as they are.
    """
    options = body.get("stream_options")
    kept = options if isinstance(options, Mapping) else {}
    sent = {**body, "stream": True, "stream_options": {**kept, "include_usage": True}}
    if last_of_assistant(body) is not None:
        sent["echo"] = True
    return sent


def choices_per_prompt(body: Mapping[str, Any]) -> int:
    """`n_cmpl`, llama-server's own name for `n`, comes first, as in llama-server."""
    n = body.get("n_cmpl", body.get("n"))
    return n if isinstance(n, int) and n > 0 else 1


class Aggregate(Discard):
    """Takes the place of a Sink and builds the document from the stream of a chat or a text
    completion. `choices`: for one prompt."""

    def __init__(self, inner: Sink, choices: int) -> None:
        super().__init__(inner)
        self._collector = Collector()
        self._timings: dict[int, Any] = {}
        self._choice = 0
        self._sum = UsageSum(choices)
        self._plain = _PlainChunks()
        self.size = 0
        """Bytes of the stream so far."""
        self.usage = self._sum.total

    def data(self, chunk: bytes) -> None:
        """`chunk`: whole events. Raises EngineFault for a malformed one."""
        at = 0
        self.size += len(chunk)
        while at < len(chunk):
            text, at = self._plain.texts(chunk, at)
            if text:
                self._collector.add_text(text)
            # What follows is of another kind, or the first of its kind: it is parsed.
            end = chunk.find(sse.BREAK, at)
            if end < 0:
                break
            self._add(chunk[at:end])
            at = end + len(sse.BREAK)
        self.touch()

    @property
    def document(self) -> Document | None:
        """The document; None if there was no choice."""
        found = self._collector.document
        if found is not None and (usage := self._sum.document()):
            found["usage"] = usage
        if found is not None and self._timings:
            found["timings"] = self._timings[min(self._timings)]
        return found

    def _add(self, raw: bytes) -> None:
        try:
            event = sse.load(raw)
            if event is not sse.NOTHING and event is not None:
                self._plain.learn(raw, event)
                self._add_chunk(event)
        except (orjson.JSONDecodeError, TypeError, AttributeError) as fault:
            why = f"the engine's stream holds an event that is no chunk: {type(fault).__name__}"
            raise EngineFault(why, away=True) from None

    def _add_chunk(self, event: Event) -> None:
        self._sum.add(event)
        event.pop("usage", None)
        event.pop("prompt_progress", None)  # from `return_progress`; documents have none
        for choice in event.get("choices") or ():
            self._choice = choice.get("index", 0)
        if "timings" in event:
            # A chunk without choices belongs to the choice before it.
            self._timings[self._choice] = event.pop("timings")
        self._collector.add(event)


class _PlainChunks:
    """Recognises by their bytes the chunks that only add text to choice 0; nearly all do.

    llama-server writes the same bytes around each text. The first chunk is parsed, and the texts of
    those that follow are cut out together (measured for 32 chunks: 12 µs instead of 310 µs).
    """

    _HEAD = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"'
    _END = b'"}}],'

    def __init__(self) -> None:
        self._tail = self._rest = self._between = b""

    def learn(self, raw: bytes, event: Mapping[str, Any]) -> None:
        """Take `raw` as the pattern if it only adds text."""
        self._tail = b""
        if not raw.startswith(self._HEAD) or event.keys() & {"usage", "timings"}:
            return
        if raw.count(self._END) == 1:
            self._tail = raw[raw.index(self._END) :] + sse.BREAK
            self._rest = self._tail.removeprefix(self._END)
            self._between = self._rest + self._HEAD

    def texts(self, events: bytes, at: int) -> tuple[str, int]:
        """The joined texts of the plain chunks that begin at `at`, and where those chunks end."""
        if not self._tail or not events.startswith(self._HEAD, at):
            return "", at
        # By a few bytes: the search for the many between two texts takes ten times as long.
        first, *others = events[at + len(self._HEAD) :].split(self._END)
        pieces, closed, between = [first], False, self._between
        behind = len(between)
        for other in others:
            if not other.startswith(between):
                closed = other.startswith(self._rest)
                break
            pieces.append(other[behind:])
        if not closed:  # the last one is of another kind
            pieces.pop()
        told = b"".join(pieces)
        end = at + len(told) + len(pieces) * (len(self._HEAD) + len(self._tail))
        try:  # joined, pieces of JSON strings are again a piece of a JSON string
            return orjson.loads(b'"%b"' % told), end
        except orjson.JSONDecodeError:
            return "", at
