"""How errors are said at each endpoint: in OpenAI's envelope, or in Anthropic's.

An `Error` is what OpenAI's envelope holds: `message`, `type`, `param`, `code`, and our `source`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.api.endpoints import BY_PATH, VERSION, Endpoint
from schemas.errors import HeadraceError

Error = Mapping[str, Any]
Say = Callable[[Error, int, str], bytes]
"""From an error, its status and the request's id."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """`document`: the body of an error answer; `event`: the same inside a stream. `request_id`: the
    name of a second header with the request's id."""

    document: Say
    event: Say
    request_id: str = ""

    def refuse(self, error: HeadraceError, request_id: str) -> bytes:
        return self.document(error.body()["error"], error.status, request_id)

    def refusal(self, document: bytes, status: int, request_id: str) -> bytes:
        """The event of an engine's refusal that came after the head was sent as 200."""
        error = error_of(document) or {"message": document.decode(errors="replace")}
        return self.event(error, status, request_id)

    def interrupt(self, error: HeadraceError, request_id: str) -> bytes:
        return self.event(error.body()["error"], error.status, request_id)


def error_of(document: bytes) -> Error | None:
    """The error in an engine's refusal; None if it is not in OpenAI's envelope."""
    try:
        found = orjson.loads(document)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _openai(error: Error, _: int, __: str) -> bytes:
    return orjson.dumps({"error": error})


def _openai_event(error: Error, status: int, request_id: str) -> bytes:
    return b"data: %b\n\n" % _openai(error, status, request_id)


def _responses_event(error: Error, _: int, __: str) -> bytes:
    """With `error` beside the documented fields: the client library raises where it sees that."""
    told = {name: error.get(name) for name in ("code", "message", "param")}
    event = {"type": "error", **told, "error": error}
    return b"event: error\ndata: %b\n\n" % orjson.dumps(event)


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; from Anthropic's API reference. Other 4xx are `invalid_request_error`."""


def _anthropic(error: Error, status: int, request_id: str) -> bytes:
    """With what OpenAI's envelope says beside `type` and `message`: clients pass over it."""
    kind = _ANTHROPIC_TYPES.get(status)
    if kind is None:
        kind = "invalid_request_error" if 400 <= status < 500 else "api_error"
    inner = {**error, "type": kind}
    return orjson.dumps({"type": "error", "error": inner, "request_id": request_id})


def _anthropic_event(error: Error, status: int, request_id: str) -> bytes:
    return b"event: error\ndata: %b\n\n" % _anthropic(error, status, request_id)


OPENAI = Dialect(_openai, _openai_event)
RESPONSES = Dialect(_openai, _responses_event)
ANTHROPIC = Dialect(_anthropic, _anthropic_event, "request-id")
_DIALECTS = {"openai": OPENAI, "responses": RESPONSES, "anthropic": ANTHROPIC}


def at(endpoint: Endpoint) -> Dialect:
    return _DIALECTS[endpoint.errors]


def anthropic(headers: Mapping[str, str]) -> bool:
    """Whether a client of Anthropic's API asks: they all say which version of it they mean."""
    return "anthropic-version" in headers


def of(path: str, headers: Mapping[str, str]) -> Dialect:
    """Its path tells it, but for the models, whose path both APIs have."""
    path = path.removeprefix(VERSION)
    if endpoint := BY_PATH.get(VERSION + path):
        return at(endpoint)
    shared = path == "/models" or path.startswith("/models/")
    return ANTHROPIC if shared and anthropic(headers) else OPENAI
