"""The messages of a chat: Ollama's, put as OpenAI's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

Entry = dict[str, Any]


class History:
    """Gives an id to each call that has none, and to each result the id of the call that it
    answers: Ollama's results name at most the tool."""

    def __init__(self) -> None:
        self._made = 0
        self._open: list[tuple[str, str]] = []
        """(name of the tool, id) of the calls without a result."""

    def put(self, messages: Iterable[Mapping[str, Any]]) -> list[Entry]:
        return list(map(self._message, messages))

    def _message(self, message: Mapping[str, Any]) -> Entry:
        role, calls = message["role"].lower(), message.get("tool_calls")
        found: Entry = {"role": role, "content": _content(message)}
        if thought := message.get("thinking"):
            found["reasoning_content"] = thought
        if calls:
            found["content"] = found["content"] or None
            found["tool_calls"] = list(map(self._call, calls))
        if role == "tool" and (answered := self._answered(message)):
            found["tool_call_id"] = answered
        return found

    def _call(self, call: Mapping[str, Any]) -> Entry:
        """What is no call passes as it came, to be refused as in any chat."""
        function = call.get("function")
        if not isinstance(function, dict):
            return {"type": "function", **call}
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments or {}).decode()
        self._made += 1
        id, name = call.get("id") or f"call_{self._made}", function.get("name")
        self._open.append((str(name), id))
        return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _answered(self, result: Mapping[str, Any]) -> str:
        """The id of the first call without a result that `result` may belong to."""
        known, name = result.get("tool_call_id"), result.get("tool_name") or result.get("name")
        for place, (called, id) in enumerate(self._open):
            if (id == known) if known else (name in (None, "", called)):
                del self._open[place]
                return id
        return known or ""


def _content(message: Mapping[str, Any]) -> str | list[Entry]:
    text, images = message.get("content") or "", message.get("images")
    if not images:
        return text
    said = [{"type": "text", "text": text}] if text else []
    return [*said, *({"type": "image_url", "image_url": {"url": each}} for each in images)]
