"""Responses that must be JSON: how a request says so, and which texts are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.api import json_format
from schemas.api.base import Document, Event
from schemas.api.json_format import JsonFormat


def format_of(request: Mapping[str, Any]) -> JsonFormat | None:
    asked = (request.get("text") or {}).get("format")
    if not asked or asked["type"] not in json_format.TYPES:
        return None
    return json_format.read(asked.get("schema"), asked.get("strict"), "text.format.schema")


def finished_texts(document: Document) -> Iterator[str]:
    if document.get("status") != "completed":
        return
    for item in document.get("output") or ():
        for part in (item.get("content") or ()) if item.get("type") == "message" else ():
            if part.get("type") == "output_text":
                yield part.get("text") or ""


class FinishedTexts:
    """See `schemas.api.base.FinishedTexts`. The last event repeats all texts."""

    def add(self, event: Event) -> Iterator[str]:
        if event.get("type") == "response.completed":
            yield from finished_texts(event["response"])
