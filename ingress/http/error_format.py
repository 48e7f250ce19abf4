"""Which API says an error: the one that the client speaks, by its path and its headers."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from schemas.api.base import PLAIN, Api, Error
from schemas.api.endpoints import BY_PATH, MESSAGES, VERSION


def of(path: str, headers: Mapping[str, str]) -> Api:
    """Its path tells it, but for the models, whose path both APIs have."""
    path = path.removeprefix(VERSION)
    if endpoint := BY_PATH.get(VERSION + path):
        return endpoint.api
    shared = path == "/models" or path.startswith("/models/")
    return MESSAGES.api if shared and anthropic(headers) else PLAIN


def anthropic(headers: Mapping[str, str]) -> bool:
    """Whether a client of Anthropic's API asks: they all say which version of it they mean."""
    return "anthropic-version" in headers


def error_of(document: bytes) -> Error | None:
    """The error in an engine's refusal; None if it is not in OpenAI's envelope."""
    try:
        found = orjson.loads(document)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def refusal_event(api: Api, document: bytes, status: int, request_id: str) -> bytes:
    """The event of an engine's refusal that came after the head was sent as 200."""
    error = error_of(document) or {"message": document.decode(errors="replace")}
    return api.error_event(error, status, request_id)
