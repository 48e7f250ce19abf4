"""Rewrites a request for ``/v1/responses`` where llama-server reads less than OpenAI documents.

Measured on b11549: an assistant's message needs a `type`. A thought needs text, and only its first
part is read. Of calls it knows those of functions, and of other items none. ``text.format`` is
ignored silently, but the chat field `response_format` works here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from workers.engines.openai.refusal import Refusal

Item = dict[str, Any]
_KNOWN = frozenset({None, "message", "function_call", "function_call_output"})
_BESIDE = frozenset({"type", "id", "status", "call_id", "name"})
"""Fields of a call that are not its arguments."""
_AT_SERVER = frozenset(
    {
        *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
    }
)
"""What another server did; its answer follows as a message."""


def prepare(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request to send, which streams. Raises Refusal."""
    sent = {**plain(request), "stream": True}
    wanted = (request.get("text") or {}).get("format")
    if wanted and wanted.get("type") in ("json_object", "json_schema"):
        inner = {name: value for name, value in wanted.items() if name != "type"}
        sent["response_format"] = {"type": wanted["type"], "json_schema": inner}
    return sent


def plain(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with an input that llama-server can read. Raises Refusal."""
    if not isinstance(items := request.get("input"), list):
        return {**request}
    found = [_item(item, f"input[{index}]") for index, item in enumerate(items)]
    return {**request, "input": [item for item in found if item is not None]}


def _item(item: Item, where: str) -> Item | None:
    """The item to send; None if it has nothing to read, such as an encrypted thought."""
    match item.get("type"):
        case None | "message" if item.get("role") == "assistant":
            return {**item, "type": "message"}
        case "reasoning":
            text = _text(item.get("content")) or _text(item.get("summary"))
            thought = [{"type": "reasoning_text", "text": text}]
            return {**item, "summary": [], "content": thought} if text else None
        case "item_reference":
            why = "Nothing is kept of what was said before: send the item itself"
            known = f"{why} (client libraries do so with 'store' set to false)."
            raise Refusal(known, param=f"{where}.type", code="unsupported_parameter")
        case "function_call" | "function_call_output" if item.get("call_id") is None:
            return {**item, "call_id": ""}  # llama-server refuses one without
        case kind if kind in _AT_SERVER:
            return None
        case kind if kind not in _KNOWN:
            return _call(item, f"{where}.type")
    return item


def _call(item: Item, where: str) -> Item:
    """A call of another kind, or its output, as that of a function. Raises Refusal."""
    kind = str(item["type"])
    name, _, last = kind.rpartition("_")
    if last not in ("call", "output") or not isinstance(item.get("call_id"), str):
        raise Refusal(f"llama-server knows no item of the type {kind!r}.", param=where)
    if last == "output":
        # The output of a search for tools is the tools that it found.
        told = item.get("output", item.get("tools"))
        told = told if isinstance(told, str) else orjson.dumps(told).decode()
        return {"type": "function_call_output", "call_id": item["call_id"], "output": told}
    given = {field: value for field, value in item.items() if field not in _BESIDE}
    arguments = orjson.dumps(given).decode()
    call_id, named = item["call_id"], item.get("name") or name
    return {"type": "function_call", "call_id": call_id, "name": named, "arguments": arguments}


def _text(parts: Any) -> str:
    return "".join(str(part.get("text") or "") for part in parts or ())
