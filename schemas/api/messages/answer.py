"""Anthropic's messages: how to read their events and documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from schemas.api import sse
from schemas.api.base import Api, Document, Error, Event, Usage, counted, number, texts_of
from schemas.api.chat.continuation import with_beginning
from schemas.api.items import FirstCall, Items
from schemas.api.messages import continuation as parts
from schemas.api.messages import events, formats
from schemas.api.reasoning import of_message

_ITEMS = Items("index", "content_block_start", "content_block", "tool_use")
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status, from Anthropic's API reference. Any other 4xx is an `invalid_request_error`."""


class Messages(Api):
    """See `schemas.api.base.Api`."""

    named = True
    prompt = "messages"
    format_fields = frozenset({"output_config", "output_format", "tools"})
    text_formats = frozenset({"output_config", "output_format"})
    limits = ("max_tokens",)
    ends_text = ("tools", "stop_sequences")
    at_limit: ClassVar[Mapping[str, str]] = {"text": "", "stop_reason": "max_tokens"}
    own_tools = (None, "custom")
    id_headers = ("x-request-id", "request-id")
    streamed = texts_of("text", "partial_json", "thinking")
    written = streamed
    call = rb'"type"\s*:\s*"tool_use"'

    def told(self, found: Event | Document) -> dict[str, Any] | None:
        """The first event has its usage inside `message`, later events at the top."""
        inner = found.get("message")
        return super().told(inner if isinstance(inner, dict) else found)

    def usage(self, found: Event | Document) -> Usage | None:
        """`input_tokens` excludes tokens read from the cache and tokens written to the cache."""
        told = self.told(found)
        usage = counted(told)
        if usage is None or told is None:
            return None
        cached = number(told, "cache_read_input_tokens")
        # Events behind the first tell no `input_tokens`: then the count of the prompt stays -1.
        read = max(0, usage.prompt) + cached + number(told, "cache_creation_input_tokens")
        return replace(usage, prompt=read or usage.prompt, cached=cached)

    def is_last(self, event: Event) -> bool:
        return event.get("type") == "message_stop"

    def missing_end(self, events: bytes) -> bytes:
        """The event before the last says why the answer stops."""
        stopped = any(
            event.get("type") == "message_delta" and (event.get("delta") or {}).get("stop_reason")
            for event in sse.objects(events)
        )
        return sse.dump({"type": "message_stop"}, named=True) if stopped else b""

    reasoning = staticmethod(of_message)
    json_formats = staticmethod(formats.formats_of)
    finished = staticmethod(formats.finished)
    finished_in_stream = staticmethod(formats.FinishedParts)
    objected = staticmethod(formats.objected)
    may_continue = staticmethod(parts.may_continue)
    continuation = staticmethod(parts.Continuation)
    with_beginning = staticmethod(with_beginning)

    def events_of(self, document: Document, usage: bool) -> list[Event]:
        return events.events_of(document)

    def collector(self) -> Collector:
        return Collector()

    def first_call(self) -> FirstCall:
        return FirstCall(_ITEMS)

    def error_document(self, error: Error, status: int, request_id: str) -> bytes:
        """Keeps the other fields of OpenAI's envelope, because Anthropic's clients ignore them."""
        other = "invalid_request_error" if 400 <= status < 500 else "api_error"
        inner = {**error, "type": _ERROR_TYPES.get(status, other)}
        return orjson.dumps({"type": "error", "error": inner, "request_id": request_id})

    def error_event(self, error: Error, status: int, request_id: str) -> bytes:
        return sse.write(self.error_document(error, status, request_id), "error")


API = Messages()


_CUT = frozenset({"max_tokens", "model_context_window_exceeded", "stop_sequence"})
"""Why an answer ends before its model ends it."""


class Collector:
    """See `schemas.api.base.Collector`. An event begins each block, and deltas add to the block."""

    def __init__(self) -> None:
        self.document: Document | None = None
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, list[str]] = {}

    def add(self, event: Event) -> None:
        match event.get("type"):
            case "message_start":
                self._message = event["message"]
            case "content_block_start":
                self._blocks[event["index"]] = event["content_block"]
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "message_delta":
                self._message |= event["delta"]
                # This usage may count the output alone: the first event has told the rest.
                told = (self._message.get("usage") or {}), (event.get("usage") or {})
                self._message["usage"] = told[0] | told[1]
            case "message_stop":
                self._finish()

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        """Each field of a delta extends the block's field of the same name."""
        block = self._blocks[index]
        for name, value in delta.items():
            if name == "partial_json":  # pieces of JSON, which only parse once they are joined
                self._inputs.setdefault(index, []).append(value)
            elif isinstance(value, str) and name != "type":
                block[name] = block.get(name, "") + value

    def _finish(self) -> None:
        for index, block in self._blocks.items():
            if block["type"] == "tool_use":  # without a delta, it was called with nothing
                block["input"] = self._input("".join(self._inputs.get(index, ())) or "{}")
        self._message["content"] = [self._blocks[index] for index in sorted(self._blocks)]
        self.document = self._message

    def _input(self, text: str) -> Any:
        """What a call was given; nothing if the answer ended in the middle of it. Raises
        JSONDecodeError if it is malformed for no such reason."""
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            if self._message.get("stop_reason") in _CUT:
                return {}
            raise
