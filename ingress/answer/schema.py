"""Answers that must be JSON: what a request wants, and whether an answer is that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.api import endpoints
from schemas.api.endpoints import Endpoint
from schemas.errors import InvalidRequest

Texts = Callable[[Any], Iterator[str]]
"""The finished texts of an answer. A text that was cut at a token limit is left out, as the client
can see that it was; so are refusals and choices that call a tool."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`schema` None: any JSON; `whole`: it must be an object. `param`: where the schema stands."""

    schema: dict[str, Any] | None
    param: str
    texts: Texts
    whole: bool = True


def of_chat(request: Mapping[str, Any]) -> Wanted | None:
    asked = request.get("response_format")
    if not asked or asked["type"] not in ("json_object", "json_schema"):
        return None
    if asked["type"] == "json_object":  # with a schema beside it: llama-server's own form
        return _wanted(asked.get("schema"), True, "response_format.schema", _chat_texts)
    inner = asked["json_schema"]
    param = "response_format.json_schema.schema"
    return _wanted(inner["schema"], inner.get("strict"), param, _chat_texts)


def of_responses(request: Mapping[str, Any]) -> Wanted | None:
    asked = (request.get("text") or {}).get("format")
    if not asked or asked["type"] not in ("json_object", "json_schema"):
        return None
    schema = asked.get("schema")
    return _wanted(schema, asked.get("strict"), "text.format.schema", _response_texts)


_WANTS: Mapping[str, Callable[[Mapping[str, Any]], Wanted | None]] = {
    endpoints.CHAT.word: of_chat,
    endpoints.RESPONSES.word: of_responses,
}


def wanted(endpoint: Endpoint, request: Mapping[str, Any]) -> Wanted | None:
    """None if the answer may be any text."""
    found = _WANTS.get(endpoint.word)
    return found and found(request)


def plain_fault(wanted: Wanted, text: str) -> str:
    """What is wrong with `text` where there is no schema to hold it against."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        return f"it is not JSON: {fault}"
    return "it is not a JSON object" if wanted.whole and not isinstance(found, dict) else ""


def refusal(wanted: Wanted, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid schema for {wanted.param!r}: {why}.", param=wanted.param)


def _wanted(schema: Any, strict: object, param: str, texts: Texts) -> Wanted:
    """A client that says ``strict: false`` takes any JSON; what it leaves out it means."""
    if schema is not None and not isinstance(schema, dict):
        raise InvalidRequest(f"Invalid value for {param!r}: an object is needed.", param=param)
    if schema is not None and strict is False:
        return Wanted(None, param, texts, whole=False)
    return Wanted(schema, param, texts)


def _chat_texts(document: Any) -> Iterator[str]:
    for choice in document.get("choices") or ():
        message = choice.get("message") or {}
        finished = choice.get("finish_reason") == "stop" and not message.get("tool_calls")
        if finished and not message.get("refusal"):
            yield message.get("content") or ""


def _response_texts(document: Any) -> Iterator[str]:
    if document.get("status") != "completed":
        return
    for item in document.get("output") or ():
        for part in (item.get("content") or ()) if item.get("type") == "message" else ():
            if part.get("type") == "output_text":
                yield part.get("text") or ""
