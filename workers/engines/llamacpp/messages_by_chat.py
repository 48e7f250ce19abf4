"""Anthropic's messages by way of a chat, where the answer has to be of a schema.

Measured on b11549: at ``/v1/messages`` llama-server passes over every field that would make a
grammar, while a chat obeys `response_format`. So the worker sends such a request as a chat, and
turns the chat's events into those of a message. The first event comes from `messages.MessageStart`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.api import sse
from schemas.api.base import Event, Usage
from schemas.api.chat.answer import API as CHAT
from schemas.api.messages.answer import API as MESSAGES
from schemas.api.messages.formats import schema_of
from workers.engines.base import Sink
from workers.engines.llamacpp import messages
from workers.engines.llamacpp.tools import messages as tools_messages
from workers.engines.openai.rewrite import Rewriting

Entry = dict[str, Any]

SIGNS = b'"output_config"', b'"output_format"', b'"tool_choice"'
"""One of them is in the body of each request that needs it."""
_SAME = ("max_tokens", "temperature", "top_p", "top_k", "chat_template_kwargs")
_CHOICES = {"any": "required", "auto": "auto", "none": "none"}
_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "stop": "end_turn"}


def is_needed(request: Mapping[str, Any], obeyed: bool) -> bool:
    """`obeyed`: a call that must come comes anyway."""
    forced = (request.get("tool_choice") or {}).get("type") in ("any", "tool")
    return (forced and not obeyed) or schema_of(request)[0] is not None


def as_chat(request: Mapping[str, Any]) -> Entry:
    """The chat to send, which streams."""
    request = messages.prepare(request)
    system = request.get("system")
    found = {name: request[name] for name in _SAME if request.get(name) is not None}
    found |= {"stream": True, "stream_options": {"include_usage": True}}
    found["messages"] = [{"role": "system", "content": system}] if system else []
    found["messages"] += map(_message, tools_messages.as_chat(request["messages"]))
    if stops := request.get("stop_sequences"):
        found["stop"] = stops
    if (budget := MESSAGES.reasoning(request).budget) is not None:
        found["thinking_budget_tokens"] = budget
    schema, _ = schema_of(request)
    if schema is not None:
        named = {"name": "answer", "schema": schema}
        found["response_format"] = {"type": "json_schema", "json_schema": named}
    tools = [tools_messages.function(tool) for tool in request.get("tools") or ()]
    if tools := [tool for tool in tools if tool["type"] == "function"]:
        found |= {"tools": tools, **_choice(request.get("tool_choice") or {})}
    return found


def _choice(choice: Mapping[str, Any]) -> Entry:
    if choice.get("type") == "tool":
        wanted: Any = {"type": "function", "function": {"name": choice.get("name")}}
    else:
        wanted = _CHOICES.get(choice.get("type", ""), "auto")
    return {
        "tool_choice": wanted,
        "parallel_tool_calls": not choice.get("disable_parallel_tool_use"),
    }


def _message(message: Entry) -> Entry:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [part for block in content if (part := _part(block)) is not None]
    return {**message, "content": parts or None}


def _part(block: Entry) -> Entry | None:
    """None for thoughts, which templates write themselves, if at all."""
    match block.get("type"):
        case "thinking" | "redacted_thinking":
            return None
        case "text":
            return {"type": "text", "text": block["text"]}
        case "image":
            source = block["source"]
            data = f"data:{source.get('media_type')};base64,{source.get('data')}"
            return {"type": "image_url", "image_url": {"url": source.get("url") or data}}
    return block


class AsMessage(Rewriting):
    """A Sink before the Sink: the stream of a chat with one choice as that of a message."""

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner, self._put)
        self.usage: Usage | None = None
        self._open = ""
        self._place = -1
        self._reason: str | None = None

    def _event(self, raw: bytes) -> bytes:
        # [DONE] becomes the end of a message: the chat's usage came behind its finish reason.
        if not sse.is_done(sse.data_of(raw) or b""):
            return super()._event(raw)
        return b"".join(sse.dump(each, named=True) for each in self._end())

    def _put(self, event: Event) -> list[Event]:
        self.usage = CHAT.usage(event) or self.usage
        found: list[Event] = []
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            found += self._said("thinking", delta.get("reasoning_content"))
            found += self._said("text", delta.get("content"))
            found += self._called(delta.get("tool_calls") or ())
            self._reason = choice.get("finish_reason") or self._reason
        return found

    def _said(self, kind: str, text: str | None) -> list[Event]:
        if not text:
            return []
        begun = self._begin(kind, {"type": kind, kind: ""}) if self._open != kind else []
        return [*begun, self._delta({"type": f"{kind}_delta", kind: text})]

    def _called(self, calls: Iterable[Entry]) -> list[Event]:
        found: list[Event] = []
        for call in calls:
            function = call.get("function") or {}
            if function.get("name"):
                use = {
                    "type": "tool_use",
                    "id": call.get("id"),
                    "name": function["name"],
                    "input": {},
                }
                found += self._begin("tool_use", use)
            if more := function.get("arguments"):
                found.append(self._delta({"type": "input_json_delta", "partial_json": more}))
        return found

    def _begin(self, kind: str, block: Entry) -> list[Event]:
        ended = self._stop()
        self._open, self._place = kind, self._place + 1
        begun = {"type": "content_block_start", "index": self._place, "content_block": block}
        return [*ended, begun]

    def _delta(self, delta: Entry) -> Event:
        return {"type": "content_block_delta", "index": self._place, "delta": delta}

    def _stop(self) -> list[Event]:
        ended = [{"type": "content_block_stop", "index": self._place}] if self._open else []
        self._open = ""
        return ended

    def _end(self) -> list[Event]:
        delta = {"stop_reason": _REASONS.get(self._reason or "", "end_turn"), "stop_sequence": None}
        usage = self.usage or Usage(0, 0, 0)
        told = {
            # Anthropic counts here only what was not in the cache.
            "input_tokens": max(0, usage.prompt - usage.cached),
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.completion,
        }
        end = {"type": "message_delta", "delta": delta, "usage": told}
        return [*self._stop(), end, {"type": "message_stop"}]
