"""Anthropic's messages: what their events and documents say."""

from __future__ import annotations

import orjson

from schemas.api import sse
from schemas.api.base import Api, Error, Event, texts_of

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; from Anthropic's API reference. Other 4xx are `invalid_request_error`."""


class Messages(Api):
    """See `schemas.api.base.Api`."""

    named = True
    request_id_header = "request-id"
    streamed = texts_of("text", "partial_json", "thinking")
    written = streamed

    def text(self, event: Event) -> str:
        delta = event.get("delta") or event.get("content_block") or {}
        return str(delta.get("text") or "")

    def error_document(self, error: Error, status: int, request_id: str) -> bytes:
        """With what OpenAI's envelope says beside `type` and `message`: clients pass over it."""
        kind = _ERROR_TYPES.get(status)
        if kind is None:
            kind = "invalid_request_error" if 400 <= status < 500 else "api_error"
        inner = {**error, "type": kind}
        return orjson.dumps({"type": "error", "error": inner, "request_id": request_id})

    def error_event(self, error: Error, status: int, request_id: str) -> bytes:
        return sse.write(self.error_document(error, status, request_id), "error")


API = Messages()
