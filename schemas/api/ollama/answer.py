"""Ollama's answers, from those of chats, text completions and embeddings: lines of JSON for the
events of a stream, documents for documents, and errors that are one text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from schemas.api import sse
from schemas.api.base import NO_ANSWER, Api, Document, Error, Event, Usage
from schemas.api.chat.answer import API as CHAT
from schemas.api.chat.formats import Calls
from schemas.api.ollama import memory
from schemas.api.ollama.memory import Turn
from schemas.errors import EngineFailed

CONTENT_TYPE = "application/x-ndjson"
KEEP_ALIVE = b" "
"""In place of a comment: clients parse each line as JSON, which may begin with a space, while no
client takes a line with nothing in it."""
_ENDS = {"tool_calls": "stop", "function_call": "stop"}
"""What Ollama calls the end of an answer, where it differs from OpenAI."""
_ROUNDING = 1e-4
"""By how much the length of a vector of an engine may differ from 1 that has made it 1 already."""
Entry = dict[str, Any]


class Ollama(Api):
    """See `schemas.api.base.Api`. It says errors; answers are those of the other APIs, put anew."""

    def error_document(self, error: Error, status: int, request_id: str) -> bytes:
        return orjson.dumps(error_line(error))


API = Ollama()


def error_line(error: Error) -> Entry:
    """Keeps the other fields of OpenAI's envelope beside the text, as clients ignore them."""
    other = {name: value for name, value in error.items() if name != "message"}
    return {"error": str(error.get("message") or "unknown"), **other}


@dataclass(slots=True)
class Said:
    """A part of an answer, or all of it. `calls`: as Ollama writes them."""

    text: str = ""
    thought: str = ""
    calls: list[Entry] = field(default_factory=list)
    logprobs: list[Entry] = field(default_factory=list)


Write = Callable[[Said], Entry]
"""Makes the fields that hold what was said."""


def as_message(said: Said) -> Entry:
    """For ``/api/chat``."""
    message: Entry = {"role": "assistant", "content": said.text}
    if said.thought:
        message["thinking"] = said.thought
    if said.calls:
        message["tool_calls"] = said.calls
    return {"message": message, **_probable(said)}


def as_response(said: Said) -> Entry:
    """For ``/api/generate``."""
    thought = {"thinking": said.thought} if said.thought else {}
    return {"response": said.text, **thought, **_probable(said)}


def _probable(said: Said) -> Entry:
    return {"logprobs": said.logprobs} if said.logprobs else {}


class Watch:
    """How long an answer takes, in nanoseconds. `clock`: in seconds. Runs as soon as it is made."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._first = 0.0

    def mark(self) -> None:
        """A part of the answer is here."""
        self._first = self._first or self._clock()

    def took(self) -> dict[str, int]:
        """Engines have their models loaded before they get a request."""
        return {"total_duration": _ns(self._clock() - self._began), "load_duration": 0}

    def times(self, timings: object) -> dict[str, int]:
        """As llama-server measured them (`timings`), else as they were measured here: up to the
        first part of a stream, and from there on. Of a document only the whole is known."""
        found = self.took()
        if isinstance(timings, dict) and "predicted_ms" in timings:
            read, written = timings.get("prompt_ms") or 0, timings["predicted_ms"] or 0
            durations = _ns(read / 1000), _ns(written / 1000)
        elif self._first:
            waited = _ns(self._first - self._began)
            durations = waited, found["total_duration"] - waited
        else:
            return {**found, "eval_duration": found["total_duration"]}
        return {**found, "prompt_eval_duration": durations[0], "eval_duration": durations[1]}


class Answer:
    """What is the same in all lines of one answer. `name`: the model as the client names it.
    `said`: the turns before it, if the last line is to have them and the answer as `context`."""

    def __init__(
        self, name: str, write: Write, watch: Watch, said: Sequence[Turn] | None = None
    ) -> None:
        self._name = name
        self._said = said
        self._texts: list[str] = []
        self._write = write
        self._watch = watch

    def line(self, said: Said, **more: Any) -> Entry:
        self._watch.mark()
        self._texts.append(said.text)
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        top = {"model": self._name, "created_at": at}
        return {**top, **self._write(said), "done": False, **more}

    def last(self, said: Said, reason: str, usage: Usage | None, timings: object) -> Entry:
        found = {"done": True, "done_reason": _ENDS.get(reason, reason)}
        line = self.line(said, **found, **self._watch.times(timings), **_counts(usage))
        if self._said is not None:
            turns = [*self._said, ("assistant", "".join(self._texts))]
            line["context"] = memory.written(turns)
        return line

    def loaded(self, word: str) -> Entry:
        """The answer to a request that only asks to have the model loaded, or unloaded."""
        return self.line(Said(), done=True, done_reason=word)


class Lines:
    """Ollama's lines for the stream of a chat or a text completion with one choice. `limit`: how
    many letters of calls are kept, as Ollama gives a call as a whole."""

    def __init__(self, answer: Answer, limit: int) -> None:
        self._answer = answer
        self._left = limit
        self._calls = Calls(self._has_room)
        self._joiner = sse.Joiner()
        self._reason = ""
        self._usage: Usage | None = None
        self._timings: object = None
        self._over = False

    def feed(self, events: bytes) -> bytes:
        found = [self._of(event) for event in sse.split(self._joiner.feed(events))]
        return b"".join(found)

    def _of(self, raw: bytes) -> bytes:
        if self._over:  # comments, too: clients take what stands behind the last line for one more
            return b""
        if raw.startswith(b":"):
            return KEEP_ALIVE
        try:
            event = sse.load(raw)
            lines = self._end(raw) if event is sse.NOTHING else list(self._lines(event))
        except NO_ANSWER as fault:
            lines = [self._failed(f"The engine sent no chunk of a chat: {type(fault).__name__}.")]
        return b"".join(orjson.dumps(line) + b"\n" for line in lines)

    def _lines(self, event: Event) -> Iterator[Entry]:
        if (error := CHAT.failure(event)) is not None:
            self._over = True
            yield error_line(error)
            return
        self._usage = CHAT.usage(event) or self._usage
        self._timings = event.get("timings") or self._timings
        for choice in event.get("choices") or ():
            said = self._said(choice)
            if said.text or said.thought or said.calls or said.logprobs:
                yield self._answer.line(said)

    def _said(self, choice: Mapping[str, Any]) -> Said:
        delta = choice.get("delta") or {"content": choice.get("text")}
        for call in delta.get("tool_calls") or ():
            self._calls.add(call)
        if self._left < 0:
            raise ValueError("calls are longer than what is kept of them")
        said = Said(_text(delta), _thought(delta), logprobs=_logprobs(choice))
        if reason := choice.get("finish_reason"):
            self._reason = str(reason)
            # Only now are the arguments whole, and Ollama's are objects.
            said.calls, more = calls_of(self._calls.whole)
            said.text += more
        return said

    def _end(self, raw: bytes) -> list[Entry]:
        """The last line, once the stream says that it is over."""
        if not sse.is_done(sse.data_of(raw) or b""):
            return []
        self._over = True
        return [self._answer.last(Said(), self._reason or "stop", self._usage, self._timings)]

    def _failed(self, why: str) -> Entry:
        self._over = True
        return error_line(EngineFailed(why, source="engine").fields())

    def _has_room(self, text: str) -> bool:
        self._left -= len(text)
        return self._left >= 0


def document(answer: Answer, found: Document) -> Entry:
    """The answer to a chat or a text completion. Raises KeyError, TypeError, AttributeError or
    IndexError for what is none."""
    choice = found["choices"][0]
    message = choice.get("message") or {"content": choice.get("text")}
    calls, more = calls_of(message.get("tool_calls") or ())
    text = _text(message) + more
    said = Said(text, _thought(message), calls, _logprobs(choice))
    reason = str(choice.get("finish_reason") or "stop")
    return answer.last(said, reason, CHAT.usage(found), found.get("timings"))


def calls_of(calls: Iterable[Mapping[str, Any]]) -> tuple[list[Entry], str]:
    """Ollama's calls, whose arguments are objects. What the model wrote in place of an object, or
    began to write before the answer was cut, is text: Ollama cannot read it as a call either."""
    found, rest = list[Entry](), ""
    for call in calls:
        function = call.get("function") or {}
        written = function.get("arguments") or "{}"
        try:
            arguments = orjson.loads(written) if isinstance(written, str) else written
        except orjson.JSONDecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            rest += str(written)
            continue
        named = {"index": len(found), "name": function.get("name") or "", "arguments": arguments}
        id = {"id": call["id"]} if call.get("id") else {}
        found.append({**id, "function": named})
    return found, rest


def embedded(name: str, watch: Watch, found: Document) -> Entry:
    """The answer to a request for embeddings, each of length 1. Raises KeyError or TypeError for
    what is none."""
    rows = sorted(found["data"], key=lambda row: row.get("index", 0))
    vectors = [normal(row["embedding"]) for row in rows]
    counts = _counts(CHAT.usage(found))
    counts.pop("eval_count", None)  # Ollama tells none, as nothing is generated
    return {"model": name, "embeddings": vectors, **watch.took(), **counts}


def normal(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    if not length or abs(length - 1) < _ROUNDING:
        return vector
    return [value / length for value in vector]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _counts(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    prompt = {"prompt_eval_count": usage.prompt} if usage.prompt >= 0 else {}
    return {**prompt, "eval_count": usage.completion}


def _text(said: Mapping[str, Any]) -> str:
    return said.get("content") or said.get("refusal") or ""


def _thought(said: Mapping[str, Any]) -> str:
    return said.get("reasoning_content") or said.get("reasoning") or ""


def _logprobs(choice: Mapping[str, Any]) -> list[Entry]:
    """As chats have them, which is as Ollama has them. Text completions have columns instead."""
    told = choice.get("logprobs") or {}
    if "tokens" not in told:
        return told.get("content") or []
    columns = zip(told["tokens"], told.get("token_logprobs") or (), strict=False)
    rows = [{"token": token, "logprob": logprob} for token, logprob in columns]
    for row, likely in zip(rows, told.get("top_logprobs") or (), strict=False):
        row["top_logprobs"] = [{"token": t, "logprob": p} for t, p in (likely or {}).items()]
    return rows
