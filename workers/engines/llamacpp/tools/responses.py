"""Tools at ``/v1/responses`` that llama-server cannot offer to the model, or cannot force. `prompt`
writes the request, and calls are read out of the text of the events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from schemas.api.base import Event
from workers.engines.llamacpp.tools import prompt
from workers.engines.llamacpp.tools.parse import Delta, reader
from workers.engines.llamacpp.tools.prompt import Expected

Item = dict[str, Any]

SIGNS = b'"tools"', b'"function_call'
"""Each request with tools, even only in its history, contains one of these."""
_FORMATS = "json_object", "json_schema"
_OURS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "top_logprobs"})


def prepare(request: Mapping[str, Any], knows: bool) -> tuple[dict[str, Any], Expected | None]:
    """Like `prompt.prepare`. Raises Refusal."""
    sent, expected = prompt.prepare(_as_chat(request), knows)
    if knows and expected is None:
        return {**request}, None
    found = {name: value for name, value in request.items() if name not in _OURS}
    if knows:
        found |= {"tools": request["tools"], "tool_choice": "none"}
    else:
        found |= _described(sent["messages"], request)
    if shape := sent.get("response_format"):
        found["text"] = {"format": {"type": "json_schema", **shape["json_schema"]}}
    return found, expected


def _as_chat(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request's tools as a chat, with the instructions as its only message."""
    own = request.get("instructions")
    choice = request.get("tool_choice")
    if isinstance(choice, dict):
        kind, inner = choice.get("type"), {**choice, "tools": _nested(choice.get("tools"))}
        choice = {"type": kind, "function": choice, "allowed_tools": inner}
    found: dict[str, Any] = {
        "messages": [{"role": "system", "content": own}] if own else [],
        "tools": _nested(request.get("tools")),
        "tool_choice": choice,
        "parallel_tool_calls": request.get("parallel_tool_calls"),
    }
    wanted = (request.get("text") or {}).get("format") or {}
    if wanted.get("type") in _FORMATS:
        found["response_format"] = {"type": wanted["type"], "json_schema": wanted}
    return found


def _nested(tools: Iterable[Item] | None) -> list[Item]:
    """The tools in the form of chats, with their fields in ``function``."""
    return [
        {"type": tool.get("type"), "function": _function(tool)}
        for tool in tools or ()
        if isinstance(tool, dict)
    ]


def _function(tool: Item) -> Item:
    return {name: value for name, value in tool.items() if name != "type"}


def _described(messages: list[Item], request: Mapping[str, Any]) -> dict[str, Any]:
    told_ = {"instructions": messages[0]["content"]} if messages else {}
    items = request.get("input")
    if not isinstance(items, list):
        return told_
    return {**told_, "input": list(map(_back, prompt.written(_calls_joined(items))))}


def _calls_joined(items: Iterable[Item]) -> Iterator[Item]:
    """The items in the form of chats; calls in a row become one message."""
    calls: list[Item] = []
    for item in items:
        if item.get("type") == "function_call":
            calls.append({"function": item})
            continue
        if calls:
            yield {"role": "assistant", "tool_calls": calls}
            calls = []
        if item.get("type") == "function_call_output":
            yield {"role": "tool", "content": _result(item.get("output"))}
        else:
            yield item
    if calls:
        yield {"role": "assistant", "tool_calls": calls}


def _result(output: Any) -> Any:
    if not isinstance(output, list):
        return output
    return [
        {**part, "type": "text"} if part.get("type") == "input_text" else part for part in output
    ]


def _back(item: Item) -> Item:
    content = item.get("content")
    if "type" in item or not isinstance(content, list):
        return item
    parts = [
        {**part, "type": "input_text"} if part.get("type") == "text" else part for part in content
    ]
    return {**item, "content": parts}


class CallsInStream:
    """Changes llama-server's events, which hold one item for the text: items of calls replace that
    item, or precede it."""

    def __init__(self, expected: Expected) -> None:
        self._reader = reader(expected)
        self._held: list[Event] = []  # the start of the text's item, which calls may replace
        self._text = ""
        self._calls: list[Item] = []

    def change(self, event: Event) -> Iterator[Event]:
        kind = event.get("type")
        match kind:
            case "response.output_item.added" if event["item"]["type"] == "message":
                self._held.append(event)
            case "response.content_part.added" if self._held:
                self._held.append(event)
            case "response.output_text.delta":
                yield from self._events_of(self._reader.feed(event["delta"]), event)
            case "response.output_text.done":
                piece = {"type": "response.output_text.delta", "item_id": event["item_id"]}
                yield from self._events_of(self._reader.end(), piece)
                yield from self._if_text({**event, "text": self._text})
            case "response.content_part.done" if event["part"]["type"] == "output_text":
                part = {**event["part"], "text": self._text}
                yield from self._if_text({**event, "part": part})
            case "response.output_item.done" if event["item"]["type"] == "message":
                yield from ({"type": kind, "item": {**call}} for call in self._calls)
                yield from self._if_text({**event, "item": self._said(event["item"])})
            case "response.completed":
                event["response"]["output"] = list(self._output(event["response"]["output"]))
                yield event
            case _:
                yield event

    def _events_of(self, deltas: Iterable[Delta], event: Event) -> Iterator[Event]:
        """`event`: one with a piece of the text, as the pattern."""
        for delta in deltas:
            if "content" in delta:
                yield from self._held
                self._held = []
                self._text += delta["content"]
                yield {**event, "delta": delta["content"]}
            for call in delta.get("tool_calls", ()):
                yield from self._called(call)

    def _called(self, call: Delta) -> Iterator[Event]:
        function = call["function"]
        if "id" in call:
            known = call["id"]
            # The same number behind "fc_" as behind "call_".
            item = {"type": "function_call", "id": f"fc_{known[5:]}", "call_id": known}
            item |= {"name": function["name"], "arguments": "", "status": "completed"}
            self._calls.append(item)
            begun = {**item, "status": "in_progress"}
            yield {"type": "response.output_item.added", "item": begun}
        item = self._calls[-1]
        if function["arguments"]:
            item["arguments"] += function["arguments"]
            told_ = {"item_id": item["id"], "delta": function["arguments"]}
            yield {"type": "response.function_call_arguments.delta", **told_}

    def _if_text(self, event: Event) -> list[Event]:
        return [] if self._held else [event]

    def _said(self, item: Item) -> Item:
        parts = [
            {**part, "text": self._text} if part.get("type") == "output_text" else part
            for part in item.get("content") or ()
        ]
        return {**item, "content": parts}

    def _output(self, output: Iterable[Item]) -> Iterator[Item]:
        for item in output:
            if item.get("type") != "message":
                yield item
                continue
            yield from self._calls
            if not self._held:
                yield self._said(item)
