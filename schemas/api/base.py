"""What every API says about its own answers, so that nobody else must know one from another.

An API is one object without state (`schemas.api.chat.API`, say). What needs state over a stream is
made by one of its methods. The ingress asks it to join choices, to continue a stream, to hold a
text against a schema and to say an error; engines ask it for calls, usage and documents; the
fallback for the text that it counts; the echo engine for the events that it sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from schemas.api import sse

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

    document: Document | None
    """None until the last event came."""

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


_NOWHERE = re.compile(b"(?!)")


class Api:
    """One API, both directions. What stands here is what an API says that has no tool calls (or no
    choices, or no text): nothing; and errors as OpenAI says them, as most do."""

    named = False
    """Its events carry their `type` as a name, and end without ``[DONE]``."""
    request_id_header = ""
    """A second header with the request's id, if its clients know it by another name."""
    limits: tuple[str, ...] = ()
    """Fields of a request that limit the answer, where it may be left without one."""
    usual_limit = 0
    """Tokens of an answer whose request has none of `limits`; 0 if the API names no number."""
    streamed = _NOWHERE
    """Finds what was generated (text, thoughts, arguments of calls) in the bytes of a stream."""
    written = _NOWHERE
    """The same in the bytes of a document."""

    def text(self, event: Event) -> str:
        """The words that an event adds to the answer, of all its choices."""
        return ""

    def usage(self, found: Event | Document) -> Usage | None:
        """What an event or a document says that the answer took."""
        return None

    def error(self, event: Event) -> Error | None:
        """The error that an event or a document under status 200 is."""
        return None

    def is_last(self, event: Event) -> bool:
        """Whether the answer is whole with this event."""
        return False

    def finished_texts(self, document: Document) -> Iterator[str]:
        """The texts of a whole answer that are not cut, no refusal, and beside no call."""
        return iter(())

    def collector(self) -> Collector | None:
        return None

    def first_call(self) -> FirstCall | None:
        return None

    def join(self, jobs: int) -> Join | None:
        return None

    def continuation(self) -> Continuation | None:
        return None

    def error_document(self, error: Error, status: int, request_id: str) -> bytes:
        """The body of an error answer."""
        return orjson.dumps({"error": error})

    def error_event(self, error: Error, status: int, request_id: str) -> bytes:
        """The event that says it inside a stream."""
        return sse.write(self.error_document(error, status, request_id))


PLAIN = Api()
"""Of endpoints that answer with a document, and whose answers are passed on as they are."""
