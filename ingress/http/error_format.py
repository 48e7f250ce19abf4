"""The form of errors: that of the API which the client speaks, by the path and the headers."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from schemas.api.base import PLAIN, Api, Error
from schemas.api.endpoints import BY_PATH, MESSAGES, OLLAMA, VERSION
from schemas.api.ollama.answer import API as OLLAMA_API

_MODELS = f"{VERSION}/models"


def of(path: str, headers: Mapping[str, str], *, served: bool = True) -> Api:
    """The API of a request. The path tells it; where it does not, as two APIs have models, and both
    have what is not `served` here, the client does."""
    path = path.removeprefix(VERSION)
    if endpoint := BY_PATH.get(VERSION + path):
        return endpoint.api
    if path.startswith(OLLAMA + "/"):
        return OLLAMA_API
    below = f"{VERSION}{path}/"
    if below.startswith(f"{MESSAGES.path}/"):
        return MESSAGES.api
    either = not served or below.startswith(f"{_MODELS}/")
    return MESSAGES.api if either and anthropic(headers) else PLAIN


def anthropic(headers: Mapping[str, str]) -> bool:
    """Whether a client of Anthropic's API asks: all of them name the version that they mean."""
    return "anthropic-version" in headers


def error_of(document: bytes) -> Error | None:
    """The error in an engine's refusal; None if it is not in OpenAI's envelope."""
    try:
        found = orjson.loads(document)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def refusal_event(api: Api, document: bytes, status: int, request_id: str) -> bytes:
    """The event for an engine's refusal that came after a head with status 200 was sent."""
    error = error_of(document) or {"message": document.decode(errors="replace")}
    return api.error_event(error, status, request_id)
