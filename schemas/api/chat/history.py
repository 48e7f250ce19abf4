"""Says the earlier messages of a chat as every engine and template takes them. Pure.

Measured on llama-server b11549: a part of the type `refusal` is a 400, arguments of a call that are
no JSON a 500. Messages with the role `function` are left to the template, and most templates refuse
them. Ollama takes no assistant's message that says nothing (its source at fb30760).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from schemas.api import plain

Message = dict[str, Any]


def mend(request: dict[str, Any]) -> bool:
    """A `schemas.api.plain.Mend`."""
    return plain.replaced(request, "messages", lambda rows: map(_message, _by_tools(rows)))


def _by_tools(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages with `tool_calls` and results of tools in place of `function_call` and results
    of functions, which are older and have no ids."""
    called = ""
    for index, message in enumerate(messages):
        function = message.get("function_call")
        if message.get("role") == "function":
            yield {**message, "role": "tool", "tool_call_id": called or f"call_{index}"}
        elif isinstance(function, dict) and not message.get("tool_calls"):
            called = f"call_{index}"
            kept = {name: value for name, value in message.items() if name != "function_call"}
            call = {"id": called, "type": "function", "function": function}
            yield {**kept, "tool_calls": [call]}
        else:
            yield message


def _message(message: Message) -> Message:
    said = message.get("role") == "assistant"
    calls = message.get("tool_calls")
    content = plain.texts(message.get("content"), "text", _beside(said, calls))
    changed: Message = {"content": content} if content is not message.get("content") else {}
    # llama-server refuses an assistant's message without content, and Ollama content that is null.
    null = content is None and ("content" in message or message.get("role") == "tool")
    if content == [] or (null and not calls):
        changed["content"] = ""
    if said and not content and not calls:
        changed["content"] = message.get("refusal") or ""
    if isinstance(calls, list):
        changed["tool_calls"] = list(map(_call, calls))
    return {**message, **changed}


def _beside(said: bool, calls: Any) -> frozenset[str]:
    """The types of parts to leave out: templates leave out earlier thoughts, too, and a call that
    also is in `tool_calls` is said twice."""
    if not said:
        return frozenset()
    return plain.BESIDE if calls else plain.THOUGHTS


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    given = plain.arguments(function.get("arguments"))
    return {"type": "function", **call, "function": {**function, "arguments": given}}
