"""Chats whose answer must be JSON: how a request says so, and which texts are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.api import json_format
from schemas.api.base import Document, Event
from schemas.api.json_format import JsonFormat


def format_of(request: Mapping[str, Any]) -> JsonFormat | None:
    asked = request.get("response_format")
    if not asked or asked["type"] not in json_format.TYPES:
        return None
    if asked["type"] == "json_object":  # with a schema beside it: llama-server's own form
        return json_format.read(asked.get("schema"), True, "response_format.schema")
    inner = asked["json_schema"]
    where = "response_format.json_schema.schema"
    return json_format.read(inner["schema"], inner.get("strict"), where)


def finished_texts(document: Document) -> Iterator[str]:
    for choice in document.get("choices") or ():
        message = choice.get("message") or {}
        finished = choice.get("finish_reason") == "stop" and not message.get("tool_calls")
        if finished and not message.get("refusal"):
            yield message.get("content") or ""


@dataclass(slots=True)
class _Choice:
    """One choice of a stream, as far as it has come."""

    text: list[str] = field(default_factory=list)
    beside: dict[str, Any] = field(default_factory=dict)
    """Calls and a refusal: the text of a choice that has any of them is not checked."""


class FinishedTexts:
    """See `schemas.api.base.FinishedTexts`. `limit`: characters kept for all choices together."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._choices: dict[int, _Choice] = {}

    def add(self, event: Event) -> Iterator[str | None]:
        for part in event.get("choices") or ():
            choice = self._choices.setdefault(part.get("index") or 0, _Choice())
            self._keep(choice, part.get("delta") or {})
            if reason := part.get("finish_reason"):
                message = {"content": "".join(choice.text), **choice.beside}
                whole = {"choices": [{"finish_reason": reason, "message": message}]}
                for text in finished_texts(whole):
                    yield text if self._left >= 0 else None

    def _keep(self, choice: _Choice, delta: dict[str, Any]) -> None:
        text = delta.get("content") or ""
        self._left -= len(text)
        if self._left >= 0:
            choice.text.append(text)
        choice.beside |= {n: delta[n] for n in ("tool_calls", "refusal") if delta.get(n)}
