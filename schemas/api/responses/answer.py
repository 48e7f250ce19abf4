"""The responses API: how to read its events and documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from schemas.api import sse
from schemas.api.base import Api, Document, Error, Event, texts_of
from schemas.api.items import FirstCall, Items
from schemas.api.reasoning import Reasoning, of_effort
from schemas.api.responses import continuation as parts
from schemas.api.responses import events, formats

_ITEMS = Items("output_index", "response.output_item.added", "item", "function_call")
_FAILED = frozenset({"failed", "cancelled"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Responses(Api):
    """See `schemas.api.base.Api`."""

    named = True
    format_fields = frozenset({"text", "tools"})
    text_formats = frozenset({"text"})
    own_tools = ("function",)
    limits = ("max_output_tokens",)
    at_limit: ClassVar[Mapping[str, str]] = {"text": "", "delta": ""}
    streamed = texts_of("delta")
    """Only deltas count, because the event that ends a part repeats the whole part."""
    written = texts_of("text", "arguments")
    call = rb'"type"\s*:\s*"function_call"'
    call_name = rb'"call_id"\s*:\s*"[^"]*"\s*,\s*(?:"[a-z_]+"\s*:\s*"[^"]*"\s*,\s*)*"name"\s*:\s*%b'
    """The name must follow a `call_id`, because an answer also lists the names of all its tools."""

    def reasoning(self, request: Mapping[str, Any]) -> Reasoning:
        inner = request.get("reasoning")
        return of_effort(inner.get("effort") if isinstance(inner, Mapping) else None)

    def told(self, found: Event | Document) -> dict[str, Any] | None:
        inner = found.get("response")
        return super().told(inner if isinstance(inner, dict) else found)

    def failure(self, found: Event | Document) -> Error | None:
        """A document that failed says so in its `status`, a stream by its last event."""
        inner = found.get("response")
        failed = inner if isinstance(inner, dict) else found
        if failed.get("status") not in _FAILED and found.get("type") != "response.failed":
            return super().failure(found)
        told = failed.get("error")
        return told if isinstance(told, dict) else {"message": "the response failed"}

    def is_last(self, event: Event) -> bool:
        return event.get("type") in _LAST

    json_formats = staticmethod(formats.formats_of)
    finished = staticmethod(formats.finished)
    objected = staticmethod(formats.objected)
    may_continue = staticmethod(parts.may_continue)
    continuation = staticmethod(parts.Continuation)
    with_beginning = staticmethod(parts.with_beginning)

    def finished_in_stream(self, limit: int) -> formats.FinishedParts:
        return formats.FinishedParts()

    def events_of(self, document: Document, usage: bool) -> list[Event]:
        return events.events_of(document)

    def collector(self) -> Collector:
        return Collector()

    def first_call(self) -> FirstCall:
        return FirstCall(_ITEMS)

    def error_event(self, error: Error, status: int, request_id: str) -> bytes:
        """Adds `error` to the documented fields, because OpenAI's clients raise if it is there."""
        told = {name: error.get(name) for name in ("code", "message", "param")}
        return sse.dump({"type": "error", **told, "error": error}, named=True)


API = Responses()


class Collector:
    """The last event carries the whole document."""

    document: Document | None = None

    def add(self, event: Event) -> None:
        if event.get("type") in _LAST:
            self.document = event["response"]
