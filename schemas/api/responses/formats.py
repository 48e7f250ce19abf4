"""Responses that must have a format: how a request says so, which parts of an answer are checked,
and what the model is told if one does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.api import json_format
from schemas.api.base import Document, Event, Request
from schemas.api.json_format import Finished, Formats, JsonFormat


def formats_of(request: Mapping[str, Any]) -> Formats | None:
    tools = (
        (f"tools[{place}]", tool)
        for place, tool in enumerate(request.get("tools") or ())
        if tool.get("type") == "function"
    )
    return json_format.formats(_of_text(request), json_format.of_tools(tools, "parameters"))


def _of_text(request: Mapping[str, Any]) -> JsonFormat | None:
    asked = (request.get("text") or {}).get("format")
    if not asked or asked["type"] not in json_format.TYPES:
        return None
    return json_format.read(asked.get("schema"), asked.get("strict"), "text.format.schema")


def finished(document: Document) -> Iterator[Finished]:
    if document.get("status") != "completed":
        return
    for item in document.get("output") or ():
        if item.get("type") == "function_call":
            yield Finished(item.get("arguments") or "{}", item.get("name") or "")
        for part in (item.get("content") or ()) if item.get("type") == "message" else ():
            if part.get("type") == "output_text":
                yield Finished(part.get("text") or "")


def objected(request: Request, document: Document, why: str) -> Request:
    """Leaves out thoughts and all else that is neither text nor call."""
    before = request["input"]
    items = [{"role": "user", "content": before}] if isinstance(before, str) else [*before]
    output = document.get("output") or ()
    texts = (part.text for part in finished(document) if not part.tool)
    if said := json_format.shown("".join(text or "" for text in texts)):
        items.append({"role": "assistant", "content": said})
    calls = [item for item in output if item.get("type") == "function_call"]
    for call in calls:
        known = {name: call.get(name) for name in ("type", "call_id", "name", "arguments")}
        told = json_format.call_objection(why)
        answered = {"type": "function_call_output", "call_id": call.get("call_id"), "output": told}
        items += [known, answered]
    if not calls:
        items.append({"role": "user", "content": json_format.objection(why)})
    return {**request, "input": items}


class FinishedParts:
    """See `schemas.api.base.FinishedParts`. The last event repeats all parts."""

    def add(self, event: Event) -> Iterator[Finished]:
        if event.get("type") == "response.completed":
            yield from finished(event["response"])
