"""Messages that must have a format: how a request says so, which parts of an answer are checked,
and what the model is told if one does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from schemas.api import json_format
from schemas.api.base import Document, Event, Request
from schemas.api.json_format import Finished, Formats, JsonFormat

_UNCUT = ("end_turn", "tool_use")  # all other reasons mean that the answer was cut


def schema_of(request: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The schema of the texts and its path, from today's field or from that of Anthropic's beta."""
    wanted, where = (request.get("output_config") or {}).get("format"), "output_config.format"
    if not wanted:
        wanted, where = request.get("output_format"), "output_format"
    if not wanted or wanted.get("type") != "json_schema":
        return None, ""
    return wanted.get("schema"), f"{where}.schema"


def formats_of(request: Mapping[str, Any]) -> Formats | None:
    schema, where = schema_of(request)
    text = JsonFormat(schema, where) if schema is not None else None
    tools = ((f"tools[{place}]", tool) for place, tool in enumerate(request.get("tools") or ()))
    return json_format.formats(text, json_format.of_tools(tools, "input_schema"))


def finished(document: Document) -> Iterator[Finished]:
    reason, blocks = document.get("stop_reason"), document.get("content") or ()
    if reason not in _UNCUT:
        return
    called = False
    for block in blocks:
        if block.get("type") == "tool_use":
            called = True
            yield Finished(orjson.dumps(block.get("input") or {}).decode(), block.get("name") or "")
    for block in blocks:
        if block.get("type") == "text" and not called:
            yield Finished(block.get("text") or "")


def objected(request: Request, document: Document, why: str) -> Request:
    """Leaves out thoughts, because they would need a signature."""
    blocks = document.get("content") or ()
    texts = [block["text"] for block in blocks if block.get("type") == "text" and block.get("text")]
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    said = [{"type": "text", "text": json_format.shown(text)} for text in texts]
    said += [{name: call.get(name) for name in ("type", "id", "name", "input")} for call in calls]
    told: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": call.get("id"), "is_error": True}
        | {"content": json_format.call_objection(why)}
        for call in calls
    ]
    told = told or [{"type": "text", "text": json_format.objection(why)}]
    before = [*request["messages"], *([{"role": "assistant", "content": said}] if said else [])]
    return {**request, "messages": [*before, {"role": "user", "content": told}]}


class FinishedParts:
    """See `schemas.api.base.FinishedParts`. The event with the reason of the end finishes all
    parts. `limit`: characters that are kept."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._blocks: dict[int, dict[str, Any]] = {}
        self._said: dict[int, list[str]] = {}

    def add(self, event: Event) -> Iterator[Finished]:
        match event.get("type"):
            case "content_block_start":
                self._blocks[event["index"]] = event["content_block"]
                self._keep(event["index"], event["content_block"].get("text") or "")
            case "content_block_delta":
                delta = event["delta"]
                self._keep(event["index"], delta.get("text") or delta.get("partial_json") or "")
            case "message_delta":
                yield from self._finished(event["delta"].get("stop_reason"))

    def _keep(self, index: int, text: str) -> None:
        self._left -= len(text)
        if self._left >= 0:
            self._said.setdefault(index, []).append(text)

    def _finished(self, reason: str | None) -> Iterator[Finished]:
        called = any(block.get("type") == "tool_use" for block in self._blocks.values())
        for index, block in self._blocks.items() if reason in _UNCUT else ():
            said = "".join(self._said.get(index, ())) if self._left >= 0 else None
            if block.get("type") == "tool_use":
                yield Finished("{}" if said == "" else said, block.get("name") or "")
            elif block.get("type") == "text" and not called:
                yield Finished(said)
