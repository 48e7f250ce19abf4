"""What every API says about its own answers, so that nobody else must know one from another.

An API is one object without state (`schemas.api.chat.API`, say). What needs state over a stream is
made by one of its methods. The ingress asks it to join choices, to continue a stream, to hold a
text against a schema and to say an error; engines ask it for calls, usage and documents; the
fallback for the text that it counts; the echo engine for the events that it sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from schemas.api import sse
from schemas.api.json_format import JsonFormat

Event = dict[str, Any]
"""The JSON object of one event of a stream."""
Document = dict[str, Any]
"""The JSON object of a whole answer."""
Error = Mapping[str, Any]
"""`message`, `type`, `param`, `code`, and our `source`, as OpenAI's envelope holds them."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `prompt` includes those found in the cache (`cached`); -1 where only
    the answer was counted."""

    prompt: int
    completion: int
    cached: int


class Collector(Protocol):
    """Makes the document that a client who did not stream gets."""

    @property
    def document(self) -> Document | None:
        """None as long as the events make no answer."""

    def add(self, event: Event) -> None:
        """Raises KeyError, TypeError or AttributeError for what is no event of this API."""


class FirstCall(Protocol):
    """Leaves out what comes after the first tool call of a choice."""

    begun: bool
    """Something was left out, so that all that comes later has to be looked at."""

    def change(self, event: Event) -> Event | None:
        """The event as it goes on; None if nothing of it does."""

    def document(self, found: Document) -> None:
        """The same for a whole answer, in place."""


class FinishedTexts(Protocol):
    """The texts of a stream, each at the event that finishes it."""

    def add(self, event: Event) -> Iterable[str | None]:
        """Those that this event finishes, as `Api.finished_texts` finds them in a document; None
        for one that was too long to be kept. Raises KeyError, TypeError or AttributeError for what
        is no event of this API."""


class Continuation(Protocol):
    """One stream of two: the second part follows where the first one broke."""

    def heard(self, event: Event) -> str | None:
        """The text of an event of the first part; None if it has something that cannot go on."""

    def told(self, event: Event, tokens: int) -> list[Event]:
        """What the client gets for an event of the second part; `tokens`: of the first part."""


class Join(Protocol):
    """Answers of several jobs as one answer with several choices."""

    def document(self, documents: list[Document]) -> Document: ...

    def event(self, job: int, event: Event) -> Event | None:
        """What the client gets for an event of the job of that number; None if it waits."""

    def last(self) -> Event | None:
        """The event that counts the tokens of all, if they were told."""


def texts_of(*fields: str) -> re.Pattern[bytes]:
    """Finds the texts of these fields in JSON, but empty ones, escaped as they are. To count with
    it takes about 1 µs an event, a tenth of what parsing does. Inside a text, the quotes around
    the name of a field would be escaped."""
    names = "|".join(fields).encode()
    return re.compile(rb'"(?:%b)"\s*:\s*"((?:[^"\\]|\\.)+)"' % names)


_NOWHERE = re.compile(rb"\A(?!)")


class Api:
    """One API, both directions. What stands here is what an API says that has no tool calls (or no
    choices, or no text): nothing; and errors as OpenAI says them, as most do."""

    named = False
    """Its events carry their `type` as a name, and end without ``[DONE]``."""
    names_model = True
    """Its answers say which model they are of."""
    request_id_header = ""
    """A second header with the request's id, if its clients know it by another name."""
    prompt = "input"
    """The field of a request with what is asked."""
    format = ""
    """The field of a request that says what the texts of its answer have to be."""
    own_tools: tuple[str | None, ...] = ()
    """The types of tools that clients run themselves; None where such a tool has no type."""
    limits: tuple[str, ...] = ()
    """Fields of a request that limit the answer, where it may be left without one."""
    usual_limit = 0
    """Tokens of an answer whose request has none of `limits`; 0 if the API names no number."""
    asks_for_usage = False
    """A stream tells its usage only if `stream_options` asks for it."""
    streamed = _NOWHERE
    """Finds what was generated (text, thoughts, arguments of calls) in the bytes of a stream."""
    written = _NOWHERE
    """The same in the bytes of a document."""
    call = b""
    """A pattern of what the bytes of an answer with a tool call have, empty if there are none.
    Inside a text, the quotes would be escaped."""
    call_name = rb'"name"\s*:\s*%b'
    """The same of the name of the tool, for which `%b` stands."""

    def begins(self, events: bytes) -> bool:
        """Whether something was generated in these events: a word, a thought, or a call."""
        if self.streamed.search(events) is not None:
            return True
        return bool(self.call) and re.search(self.call_name % b'"[^"]', events) is not None

    def told(self, found: Event | Document) -> dict[str, Any] | None:
        """The `usage` object of an event or a document."""
        usage = found.get("usage")
        return usage if isinstance(usage, dict) else None

    def usage(self, found: Event | Document) -> Usage | None:
        """What an event or a document says that the answer took."""
        return counted(self.told(found))

    def error(self, event: Event) -> Error | None:
        """The error that an event or a document under status 200 is."""
        error = event.get("error")
        if not error:
            return None
        return error if isinstance(error, dict) else {"message": str(error)}

    def failure(self, event: Event) -> Error | None:
        """The same, also where it is said as the end of an answer."""
        return self.error(event)

    def is_last(self, event: Event) -> bool:
        """Whether the answer is whole with this event."""
        return False

    def ended(self, stream: sse.Splitter) -> bool:
        """Whether a stream has said that it is over."""
        return stream.finished or any(map(self.is_last, sse.objects(stream.tail)))

    def json_format(self, request: Mapping[str, Any]) -> JsonFormat | None:
        """What the texts of an answer have to be; None if they may be anything. Raises
        InvalidRequest."""
        return None

    def finished_texts(self, document: Document) -> Iterable[str]:
        """The texts of a whole answer that can be held against a format: not one that was cut at a
        limit, as the client can see that it was, nor refusals and what stands beside a call."""
        raise NotImplementedError

    def texts_of_stream(self, limit: int) -> FinishedTexts:
        """`limit`: characters of text that are kept."""
        raise NotImplementedError

    def call_signs(self, name: str = "") -> list[re.Pattern[bytes]]:
        """All of them are in the bytes of an answer that calls a tool, or the tool of that name."""
        called = [self.call, self.call_name % re.escape(orjson.dumps(name))]
        return list(map(re.compile, called if name else called[:1]))

    def collector(self) -> Collector | None:
        return None

    def first_call(self) -> FirstCall | None:
        return None

    def join(self, jobs: int) -> Join:
        raise NotImplementedError

    def may_continue(self, request: Mapping[str, Any]) -> bool:
        """Whether the stream of such a request may be continued where it breaks, as long as it is
        nothing but text."""
        return False

    def continuation(self) -> Continuation:
        raise NotImplementedError

    def error_document(self, error: Error, status: int, request_id: str) -> bytes:
        """The body of an error answer."""
        return orjson.dumps({"error": error})

    def error_event(self, error: Error, status: int, request_id: str) -> bytes:
        """The event that says it inside a stream."""
        return sse.write(self.error_document(error, status, request_id))


PLAIN = Api()
"""Of endpoints that answer with a document, and whose answers are passed on as they are."""


def counted(told: Mapping[str, Any] | None) -> Usage | None:
    """A `usage` object in OpenAI's words: those of its chats, or those of its newer endpoints."""
    if not told:
        return None
    details = told.get("prompt_tokens_details") or told.get("input_tokens_details")
    return Usage(
        number(told, "prompt_tokens", number(told, "input_tokens", -1)),
        number(told, "completion_tokens", number(told, "output_tokens")),
        number(details, "cached_tokens") if isinstance(details, dict) else 0,
    )


def number(told: Mapping[str, Any], name: str, default: int = 0) -> int:
    """A count of tokens; `default` where there is none."""
    value = told.get(name)
    return value if isinstance(value, int) else default
