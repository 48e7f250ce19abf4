"""The events of a response that came as one document. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas.api.base import Document, Event

_TEXTS = {"output_text": ("text", "output_text"), "refusal": ("refusal", "refusal")}
"""By the type of a part: the field with its text, and the name of its events."""


def events_of(document: Document) -> list[Event]:
    begun = {**document, "status": "in_progress", "output": [], "usage": None}
    status = "incomplete" if document.get("status") == "incomplete" else "completed"
    found: list[Event] = [{"type": f"response.{n}", "response": begun} for n in _BEGUN]
    for place, item in enumerate(document.get("output") or ()):
        found += _of_item(place, item)
    found.append({"type": f"response.{status}", "response": document})
    return [{**event, "sequence_number": number} for number, event in enumerate(found)]


_BEGUN = ("created", "in_progress")


def _of_item(place: int, item: dict[str, Any]) -> Iterator[Event]:
    at = {"output_index": place}
    empty = {**item, "status": "in_progress"}
    if item.get("type") == "message":
        empty["content"] = []
    if item.get("type") == "function_call":
        empty["arguments"] = ""
    yield {"type": "response.output_item.added", "item": empty, **at}
    inside = {**at, "item_id": item.get("id")}
    if item.get("type") == "message":
        for number, part in enumerate(item.get("content") or ()):
            yield from _of_part(part, {**inside, "content_index": number})
    if item.get("type") == "function_call":
        said, name = item.get("arguments") or "", "response.function_call_arguments"
        yield {"type": f"{name}.delta", "delta": said, **inside}
        yield {"type": f"{name}.done", "arguments": said, "name": item.get("name"), **inside}
    yield {"type": "response.output_item.done", "item": item, **at}


def _of_part(part: dict[str, Any], at: dict[str, Any]) -> Iterator[Event]:
    field, name = _TEXTS.get(part.get("type", ""), ("", ""))
    empty = {**part, field: ""} if field else part
    yield {"type": "response.content_part.added", "part": empty, **at}
    if field:
        said = part.get(field) or ""
        # OpenAI's client requires log-probabilities in the events of texts alone.
        more: Event = {"logprobs": []} if field == "text" else {}
        yield {"type": f"response.{name}.delta", "delta": said, **more, **at}
        yield {"type": f"response.{name}.done", field: said, **more, **at}
    yield {"type": "response.content_part.done", "part": part, **at}
