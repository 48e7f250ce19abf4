"""What every API knows about its own answers, so that no other module must tell APIs apart.

An API is one stateless object (for example `schemas.api.chat.answer.API`). Its methods make the
helpers that keep state over a stream. The ingress asks an API to join choices, to continue a
stream, to find the texts that must fit a schema, and to write an error. Engines ask it for calls,
usage and documents. The fallback asks it for the text to count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import orjson

from schemas import bounds
from schemas.api import sse
from schemas.api.json_format import Finished, Formats
from schemas.api.reasoning import UNSAID, Reasoning

Event = dict[str, Any]
"""The JSON object of one event of a stream."""
Document = dict[str, Any]
"""The JSON object of a whole answer."""
Request = dict[str, Any]
NO_ANSWER = (AttributeError, LookupError, TypeError, ValueError)
"""What reading an event or document raises that is none of its API: not all in it was checked."""
Error = Mapping[str, Any]
"""`message`, `type`, `param`, `code`, and our `source`, as OpenAI's envelope holds them."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `prompt` includes the tokens found in the cache (`cached`); it is -1
    if only the answer was counted."""

    prompt: int
    completion: int
    cached: int


class Rest(NamedTuple):
    """The end of a stream. `events`: to pass on. `whole`: the answer is complete. `said`: the
    stream says so itself; if it does not, `events` do."""

    events: bytes
    whole: bool
    said: bool


class Outline(NamedTuple):
    """What of a request matters once the stream of its answer broke. It is kept instead of the
    request, which may be large. `continues`: others may go on from a text. `shows_thoughts`: the
    client asks to see them. `limit`: most tokens of the answer; None if none is set. `closes`: only
    the model itself, or the limit, ends a text, and no call follows it."""

    continues: bool = False
    shows_thoughts: bool = False
    limit: int | None = None
    closes: bool = True


WHOLE = Outline()
"""Of a request whose stream nobody continues."""


class Collector(Protocol):
    """Makes a document of the events of a stream, for a client that did not ask for a stream."""

    @property
    def document(self) -> Document | None:
        """None until the events make an answer."""

    def add(self, event: Event) -> None:
        """Raises KeyError, TypeError or AttributeError if this is no event of this API."""


class FirstCall(Protocol):
    """Removes everything after the first tool call of a choice."""

    begun: bool
    """Something was removed, so every later event has to be looked at."""

    def change(self, event: Event) -> Event | None:
        """The event to pass on; None if nothing of the event is left."""

    def document(self, found: Document) -> None:
        """Does the same to a whole answer, in place."""


class FinishedParts(Protocol):
    """Collects the texts and calls of a stream, and gives each one when its last event arrives."""

    def add(self, event: Event) -> Iterable[Finished]:
        """The parts that this event finishes, by the rules of `Api.finished`. Raises KeyError,
        TypeError or AttributeError if this is no event of this API."""


class Continuation(Protocol):
    """Makes one stream of several parts: each part goes on where the one before it broke.
    `thought`: the thoughts of the event that was heard last. `begins_anew`: the later parts begin
    anew behind thoughts, so they leave out their own."""

    thought: str
    begins_anew: bool

    def heard(self, event: Event) -> str | None:
        """The text of an event that the client has; None if what follows it cannot be continued."""

    def told(self, event: Event, text: str) -> list[Event]:
        """The events that the client gets for one event of a later part. `text`: the text of the
        parts before it."""

    @property
    def closed(self) -> bool:
        """Whether the client has an event that says that the text is whole."""

    def closing(self, outline: Outline, tokens: int) -> list[Event]:
        """The events that are missing behind that; none if only the engine knows them. `tokens`:
        how many the text has."""


class Join(Protocol):
    """Joins the answers of several jobs to one answer with several choices."""

    def document(self, documents: list[Document]) -> Document: ...

    def event(self, job: int, event: Event) -> Event | None:
        """What the client gets for an event of job number `job`; None if the event is kept back."""

    def last(self) -> Event | None:
        """The event with the tokens of all jobs together; None if no job told its tokens."""


def texts_of(*fields: str) -> re.Pattern[bytes]:
    """A pattern that finds the non-empty texts of these fields in JSON, still escaped.

    Counting with it takes about 1 µs an event, a tenth of parsing. It cannot match inside a text,
    because JSON escapes the quotes there.
    """
    names = "|".join(fields).encode()
    return re.compile(rb'"(?:%b)"\s*:\s*"((?:[^"\\]|\\.)+)"' % names)


_NOWHERE = re.compile(rb"\A(?!)")  # \A: without it, each byte is tried, at 20 times the cost
"""Matches nothing."""


class Api:
    """One API. The defaults fit an API without tool calls, choices, texts and streams, whose errors
    have OpenAI's form."""

    named = False
    """Whether each event has its `type` as its name, and the stream ends without ``[DONE]``."""
    own = False
    """Whether it is llama-server's own, whose streams end with neither."""
    names_model = True
    """Whether answers name their model."""
    id_headers: tuple[str, ...] = ("x-request-id",)
    """The headers of an answer that have the request's id: ours, and that of this API's clients."""
    prompt = "input"
    """The request's field that holds the input."""
    format_fields = frozenset[str]()
    """The request's fields that say which format the texts and calls of the answer must have."""
    text_formats = frozenset[str]()
    """Those of them that say it of texts alone."""
    own_tools: tuple[str | None, ...] = ()
    """The types of tools that clients run themselves; None stands for a tool without a type."""
    limits: tuple[str, ...] = ()
    """The request's fields that limit the answer's tokens."""
    at_limit: ClassVar[Mapping[str, str]] = {}
    """What the fields of an event say, wherever they stand, if the limit leaves no more words."""
    ends_text: tuple[str, ...] = ()
    """The request's fields by which a text may end, or a call follow it."""
    usual_limit = 0
    """The limit of a request that sets none of `limits`; 0 if the API documents no default."""
    asks_for_usage = False
    """Whether a stream tells its usage only if `stream_options` asks for it."""
    streamed = _NOWHERE
    """Finds generated text, thoughts and arguments of calls in the bytes of a stream."""
    written = _NOWHERE
    """Does the same in the bytes of a document."""
    call = b""
    """A pattern that the bytes of every answer with a tool call match; empty if the API has no tool
    calls. It cannot match inside a text, because JSON escapes the quotes there."""
    call_name = rb'"name"\s*:\s*%b'
    """A pattern for the name of the called tool; `%b` stands for the name."""
    answer = re.compile(rb"\{")
    """Finds in the bytes of a stream what makes it an answer, perhaps one without a word."""

    def __init__(self) -> None:
        self.begun = self._with_calls(self.streamed)
        """Finds in the bytes of a stream anything generated: a word, a thought, or a call."""
        self.said = self._with_calls(self.written)
        """Does the same in the bytes of a document."""

    def _with_calls(self, texts: re.Pattern[bytes]) -> re.Pattern[bytes]:
        called = self.call_name % b'"[^"]'
        return re.compile(b"%b|%b" % (texts.pattern, called)) if self.call else texts

    def told(self, found: Event | Document) -> dict[str, Any] | None:
        """The `usage` object of an event or a document."""
        usage = found.get("usage")
        return usage if isinstance(usage, dict) else None

    def usage(self, found: Event | Document) -> Usage | None:
        """The tokens that an event or a document reports."""
        return counted(self.told(found))

    def failure(self, found: Event | Document) -> Error | None:
        """The error in an event, or in a document that came with status 200. It may have another
        API's shape: a list (Cloudflare), or a bare object of the type "error" (Anthropic), a word
        that older vLLMs write as `object`."""
        several = found.get("errors")
        if isinstance(several, list) and several and isinstance(several[0], dict):
            return several[0]
        if error := found.get("error"):
            # Some servers say {"error": true} and put the text beside it, under `message`.
            told = found.get("message") or error if error is True else error
            return error if isinstance(error, dict) else {"message": str(told)}
        return found if "error" in (found.get("type"), found.get("object")) else None

    def is_last(self, event: Event) -> bool:
        """Whether the answer is complete with this event."""
        return False

    def ended(self, stream: sse.Splitter) -> bool:
        """Whether a stream has announced its end."""
        return stream.finished or any(map(self.is_last, sse.objects(stream.tail)))

    def missing_end(self, events: bytes) -> bytes:
        """The event that ends a stream with these last `events`, if it alone is missing: the answer
        says that it is complete. Empty if the answer is not complete."""
        return b""

    def rest(self, stream: sse.Splitter) -> Rest:
        """What is left of a stream whose connection has ended."""
        left = stream.rest()
        if sse.without_comments(left) and not sse.is_whole(left):  # it was cut in an event
            said = self.ended(stream)
            return Rest(b"", said, said)
        if self.ended(stream):
            return Rest(left, True, True)
        end = self.missing_end(stream.tail)
        return Rest(left + end, bool(end), False)

    def reasoning(self, request: Mapping[str, Any]) -> Reasoning:
        """How much the request wants the model to think."""
        return UNSAID

    def json_formats(self, request: Mapping[str, Any]) -> Formats | None:
        """The formats that the texts and calls of the answer must have; None if any will do. Raises
        InvalidRequest."""
        return None

    def finished(self, document: Document) -> Iterable[Finished]:
        """The texts and calls of a whole answer that can be checked against a format.

        Left out are texts and calls that were cut at a limit (the client can see that), refusals,
        and texts beside a call.
        """
        raise NotImplementedError

    def finished_in_stream(self, limit: int) -> FinishedParts:
        """`limit`: how many characters are kept."""
        raise NotImplementedError

    def objected(self, request: Request, document: Document, why: str) -> Request:
        """The next request after an answer that did not fit: it shows the model that answer, and
        says what is wrong with it (`why`)."""
        raise NotImplementedError

    def call_signs(self, name: str = "") -> list[re.Pattern[bytes]]:
        """Patterns that all match the bytes of an answer that calls a tool (the tool `name`)."""
        called = [self.call, self.call_name % re.escape(orjson.dumps(name))]
        return list(map(re.compile, called if name else called[:1]))

    def collector(self) -> Collector | None:
        return None

    def events_of(self, document: Document, usage: bool) -> list[Event]:
        """The events of a whole answer, for a client that asked for a stream. `usage`: whether they
        tell the usage, if this API's clients are asked. Empty if the API has no such events."""
        return []

    def as_stream(self, document: Document, usage: bool) -> bytes:
        """Those events, as a stream with its end."""
        events = self.events_of(document, usage)
        end = sse.DONE if events and not self.named else b""
        return b"".join(sse.dump(event, self.named) for event in events) + end

    def first_call(self) -> FirstCall | None:
        return None

    def join(self, jobs: int) -> Join:
        raise NotImplementedError

    def may_continue(self, request: Mapping[str, Any]) -> bool:
        """Whether a broken stream of this request may be continued, if it is only text so far."""
        return False

    def shows_thoughts(self, request: Mapping[str, Any]) -> bool:
        """Whether the client asks to see the model's thoughts."""
        return False

    def outline(self, request: Request) -> Outline:
        """Of a checked request."""
        limit = next((request[name] for name in self.limits if request.get(name) is not None), None)
        closes = not any(map(request.get, self.ends_text))
        return Outline(self.may_continue(request), self.shows_thoughts(request), limit, closes)

    def continuation(self) -> Continuation:
        raise NotImplementedError

    def continued(self, request: Request, text: str, tokens: int) -> Request:
        """The request whose answer follows `text`, which has `tokens` tokens. Behind a text it asks
        for no format, which would have to begin anew."""
        left_out = self.text_formats if text else frozenset[str]()
        kept = {name: value for name, value in request.items() if name not in left_out}
        limits = ((name, request.get(name)) for name in self.limits)
        left = {
            # Never 0, which is no limit to Ollama (docs/engines.md). -1 is none at llama-server.
            name: max(1, value - tokens)
            for name, value in limits
            if type(value) is int and value > 0
        }
        return self.with_beginning({**kept, **left}, text)

    def with_beginning(self, request: Request, text: str) -> Request:
        """The request with `text` as the beginning of its answer."""
        raise NotImplementedError

    def is_spent(self, request: Request, tokens: int) -> bool:
        """Whether an answer of `tokens` tokens is as long as the request allows."""
        limits = (request.get(name) for name in self.limits)
        return any(type(limit) is int and 0 < limit <= tokens for limit in limits)

    def without_words(self, event: Event) -> Event:
        """An event of an answer whose limit was used up before: it only says so, in place."""
        for name, value in event.items():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    self.without_words(each)
            if name in self.at_limit and isinstance(value, str):
                event[name] = self.at_limit[name]
        return event

    def move_usage(self, found: Event | Document, read: int, written: int) -> None:
        """Count the beginning of a continued answer as answer, in place. `read`: its tokens as the
        engine counts them, to which it was a part of the prompt. `written`: those that the answer
        has more."""
        if usage := self.told(found):
            # A message ends with a usage that has no count of the prompt.
            prompt = number(usage, "prompt_tokens", number(usage, "input_tokens", read))
            less = min(read, prompt)  # so that no count falls below zero
            changes = dict.fromkeys(("prompt_tokens", "input_tokens"), -less)
            changes |= dict.fromkeys(("completion_tokens", "output_tokens"), written)
            for name, more in {**changes, "total_tokens": written - less}.items():
                if name in usage:
                    usage[name] = number(usage, name) + more

    def error_document(self, error: Error, status: int, request_id: str) -> bytes:
        """The body of an error answer."""
        return orjson.dumps({"error": error})

    def error_event(self, error: Error, status: int, request_id: str) -> bytes:
        """The event that reports an error inside a stream."""
        return sse.write(self.error_document(error, status, request_id))


PLAIN = Api()
"""For endpoints that answer with one document, which is passed on as it is."""


def counted(told: Mapping[str, Any] | None) -> Usage | None:
    """Reads a `usage` object with OpenAI's field names, those of chats or of newer endpoints."""
    if not told:
        return None
    details = told.get("prompt_tokens_details") or told.get("input_tokens_details")
    return Usage(
        number(told, "prompt_tokens", number(told, "input_tokens", -1)),
        number(told, "completion_tokens", number(told, "output_tokens")),
        number(details, "cached_tokens") if isinstance(details, dict) else 0,
    )


def number(told: Mapping[str, Any], name: str, default: int = 0) -> int:
    """A count of tokens; `default` if the field is missing, or no whole number that can be one."""
    value = told.get(name)
    # A server may write 5.0 for 5.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= bounds.TOKENS else default


def wants_usage(request: Mapping[str, Any]) -> bool:
    """Whether the client wants the usage in the stream. Works for text completions, too."""
    return bool((request.get("stream_options") or {}).get("include_usage"))
