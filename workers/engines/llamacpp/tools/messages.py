"""Tools at ``/v1/messages`` for a model to which llama-server cannot offer any. `prompt` writes the
request, and calls are read out of the text of the events. llama-server ignores a schema of the
answer here (measured), so a call is forced by way of a chat (`messages_by_chat`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from schemas.api.base import Event
from workers.engines.llamacpp.tools import prompt
from workers.engines.llamacpp.tools.parse import Delta, reader
from workers.engines.llamacpp.tools.prompt import Expected

Block = dict[str, Any]

SIGNS = b'"tools"', b'"tool_use"', b'"tool_result"'
"""Each request with tools, even only in its history, contains one of these."""
_OURS = frozenset({"tools", "tool_choice"})


def prepare(request: Mapping[str, Any], knows: bool) -> tuple[dict[str, Any], Expected | None]:
    """Like `prompt.prepare`. Raises Refusal."""
    if knows:
        return {**request}, None
    own = request.get("system")
    none = (request.get("tool_choice") or {}).get("type") == "none"
    sent, expected = prompt.prepare(
        {
            "messages": [{"role": "system", "content": own}] if own else [],
            "tools": [function(tool) for tool in request.get("tools") or ()],
            "tool_choice": "none" if none else "auto",
        },
        knows=False,
    )
    found = {name: value for name, value in request.items() if name not in _OURS}
    found["messages"] = list(prompt.written(as_chat(request["messages"])))
    if sent["messages"]:
        found["system"] = sent["messages"][0]["content"]
    return found, expected


def function(tool: Block) -> Block:
    if tool.get("type") not in (None, "custom"):
        return {"type": tool["type"]}
    about = {name: tool[name] for name in ("name", "description", "strict") if name in tool}
    return {"type": "function", "function": {**about, "parameters": tool.get("input_schema")}}


def as_chat(messages: Iterable[Block]) -> Iterator[Block]:
    """The messages with calls and results in the form of chats."""
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            yield message
            continue
        uses = [block for block in content if block.get("type") == "tool_use"]
        for block in content:
            if block.get("type") == "tool_result":
                known = {"role": "tool", "tool_call_id": block.get("tool_use_id")}
                yield {**known, "content": block.get("content")}
        rest = [b for b in content if b.get("type") not in ("tool_use", "tool_result")]
        if uses:
            yield {**message, "content": rest, "tool_calls": list(map(_call, uses))}
        elif rest:
            yield {**message, "content": rest}


def _call(use: Block) -> Block:
    arguments = orjson.dumps(use.get("input") or {}).decode()
    about = {"name": use.get("name"), "arguments": arguments}
    return {"id": use.get("id"), "type": "function", "function": about}


class CallsInStream:
    """Changes llama-server's events: blocks of calls replace the block of text, or precede it."""

    def __init__(self, expected: Expected) -> None:
        self._reader = reader(expected)
        self._held: Event | None = None  # the start of the text, which calls may replace
        self._text = -1  # the engine's index of the text
        self._open = False  # the client has the start of the text
        self._place = 0  # the client's index of the next block

    def change(self, event: Event) -> Iterator[Event]:
        match event.get("type"):
            case "content_block_start" if event["content_block"]["type"] == "text":
                self._held, self._text = event, event["index"]
                self._place = self._text
            case "content_block_delta" if event["delta"]["type"] == "text_delta":
                yield from self._events_of(self._reader.feed(event["delta"]["text"]))
            case "content_block_stop" if event["index"] == self._text:
                yield from self._events_of(self._reader.end())
                if self._open:
                    yield {**event, "index": self._place}
            case "message_delta" if self._reader.count:
                delta = event["delta"]
                if delta.get("stop_reason") == "end_turn":
                    event["delta"] = {**delta, "stop_reason": "tool_use"}
                yield event
            case _:
                yield event

    def _events_of(self, deltas: Iterable[Delta]) -> Iterator[Event]:
        for delta in deltas:
            if "content" in delta:
                if self._held is not None:
                    yield {**self._held, "index": self._place}
                self._held, self._open = None, True
                yield self._more({"type": "text_delta", "text": delta["content"]})
            for call in delta.get("tool_calls", ()):
                yield from self._called(call)

    def _called(self, call: Delta) -> Iterator[Event]:
        function = call["function"]
        use = {"type": "tool_use", "id": call["id"], "name": function["name"], "input": {}}
        yield {"type": "content_block_start", "index": self._place, "content_block": use}
        yield self._more({"type": "input_json_delta", "partial_json": function["arguments"]})
        yield {"type": "content_block_stop", "index": self._place}
        self._place += 1

    def _more(self, delta: Block) -> Event:
        return {"type": "content_block_delta", "index": self._place, "delta": delta}
