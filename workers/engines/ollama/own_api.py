"""Translates requests to Ollama's own API, to count tokens and to keep models loaded. Pure.

Ollama's OpenAI and Anthropic endpoints translate whole requests themselves (source at fb30760).
This module translates only the prompt, and leaves out pictures, so that no model sees them twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from workers.engines.openai.refusal import Refusal

_SAYING = ("messages", "input", "instructions", "system", "prompt")
"""Fields with the text of a prompt, at any endpoint."""
_DURATION = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+")
_SENSED = ("image_url", "input_audio", "source")


def text_bytes(request: Mapping[str, Any]) -> int:
    """Bytes of text in the prompt, without images and sound; not recursive, as it may be deep."""
    size, left = 0, [request.get(name) for name in _SAYING]
    while left:
        here = left.pop()
        if isinstance(here, str):
            size += len(here.encode(errors="replace"))
        elif isinstance(here, list):
            left += here
        elif isinstance(here, dict):
            left += [here[key] for key in here if key not in _SENSED]
    return size


def native(request: Mapping[str, Any]) -> dict[str, Any]:
    """The body for ``/api/chat``, or for ``/api/generate`` if there is a prompt. Raises
    AttributeError or TypeError for malformed requests."""
    if "prompt" in request and "messages" not in request and "input" not in request:
        return {"prompt": request.get("prompt"), "suffix": request.get("suffix") or ""}
    tools = [_tool(tool) for tool in request.get("tools") or ()]
    return {"messages": list(_messages(request)), "tools": tools}


def kept(request: Mapping[str, Any]) -> Any:
    """The request's `keep_alive`: seconds, or a duration as Go writes it; None without one. Raises
    Refusal."""
    found = request.get("keep_alive")
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if found is None or number or (isinstance(found, str) and _DURATION.fullmatch(found)):
        return found
    why = "Invalid value for 'keep_alive': seconds, or a duration like '10m', are needed."
    raise Refusal(why, param="keep_alive")


def _messages(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("instructions", "system"):
        for text in _texts(request.get(name) or []):
            yield {"role": "system", "content": text}
    given = request["messages"] if "messages" in request else request.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    for message in given or ():
        yield from _message(message)


def _message(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One message for each part, as Ollama's OpenAI endpoint makes them; also calls and results."""
    kind, role = message.get("type"), message.get("role")
    if kind == "function_call":
        return [{"role": "assistant", "content": "", "tool_calls": [_called(message)]}]
    if kind == "function_call_output":
        return [{"role": "tool", "content": text} for text in _texts(message.get("output") or "")]
    found = [{"role": role, "content": text} for text in _texts(message.get("content") or "")]
    calls = [_called(call.get("function") or {}) for call in message.get("tool_calls") or ()]
    if calls and found:
        found[-1]["tool_calls"] = calls
    return found


def _texts(content: Any) -> list[str]:
    """The texts of parts. In Anthropic's, a tool's result has parts, too, and a call an input."""
    if not isinstance(content, list):
        return [content]
    found: list[str] = []
    for part in content:
        if isinstance(part.get("text"), str):
            found.append(part["text"])
        elif part.get("type") == "tool_use":
            found.append(orjson.dumps(part.get("input")).decode())
        elif part.get("type") == "tool_result":
            inner = part.get("content") or ""
            parts = inner if isinstance(inner, list) else [{"text": inner}]
            found += [each["text"] for each in parts if isinstance(each.get("text"), str)]
    return found


def _called(function: Mapping[str, Any]) -> dict[str, Any]:
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:  # only tokens are counted here
        arguments = {}
    return {"function": {"name": function.get("name", ""), "arguments": arguments}}


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if "function" in tool:
        return tool
    about = {key: tool[key] for key in ("name", "description") if key in tool}
    parameters = tool.get("parameters") or tool.get("input_schema") or {}
    return {"type": "function", "function": {**about, "parameters": parameters}}
