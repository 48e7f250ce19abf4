"""Which earlier messages Ollama takes, and its words for those it does not (source at fb30760)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

Message = dict[str, Any]
_PARTS = frozenset({"input_text", "output_text", "input_image", "input_file"})
_ITEMS = frozenset({"message", "function_call", "function_call_output", "reasoning"})


def arguments(text: Any, why: str) -> Any:
    """Its Go field is a map: an object, or null. Raises ValueError."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = ""
    if found is not None and not isinstance(found, dict):
        raise ValueError(why)
    return found


def calls(message: Message) -> list[Message]:
    """Those of a chat's message. Raises ValueError."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    why = "invalid tool call arguments"
    return [
        {"function": {"name": f["name"], "arguments": arguments(f.get("arguments") or "", why)}}
        for f in functions
    ]


def of_items(given: Any) -> list[Message]:
    """The messages of a response's input. Raises ValueError."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [_of_item(item, f"input[{index}]") for index, item in enumerate(given or ())]


def _of_item(item: Message, where: str) -> Message:
    kind = item.get("type") or ("message" if item.get("role") else "")
    if kind not in _ITEMS:
        raise ValueError(f'{where}: unknown input item type: "{kind}"')
    said = item.get("output" if kind == "function_call_output" else "content")
    _check_parts(said, f"{where}: content")
    if kind == "function_call":
        text = item.get("arguments") or "null"
        if not isinstance(text, str):
            raise ValueError(f"{where}: json: cannot unmarshal into string")
        arguments(text, "failed to parse function call arguments")
    roles = {"function_call_output": "tool", "message": item.get("role")}
    return {"role": roles.get(kind, "assistant"), "content": said}


def _check_parts(parts: Any, where: str) -> None:
    if parts is not None and not isinstance(parts, str | list):
        raise ValueError(f"{where} must be a string or array")
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        if part.get("type") not in _PARTS:
            raise ValueError(f"{where}[{index}]: unknown content type: {part.get('type')}")


def check_messages(asked: Mapping[str, Any]) -> None:
    """Raises ValueError."""
    for message in asked.get("messages") or ():
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            if block.get("type") != "tool_use":
                continue
            if not isinstance(block.get("input"), dict | None):
                raise ValueError("json: cannot unmarshal into map[string]interface {}")
            for name in ("id", "name"):
                if not block.get(name):
                    raise ValueError(f"tool_use block missing required '{name}' field")
