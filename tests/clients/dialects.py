"""What a request of each API asks of a model with tools, and llama-server's words for its turn.

The shapes of the events were recorded: `tests/doubles/llamacpp/data/{tools,messages_tool,
responses_tool}.sse`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tests.doubles.base import DONE, sse, words_of
from tests.doubles.llamacpp.wire import FINGERPRINT, PROMPT_TOKENS

_USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 8, "total_tokens": 24}
_TOKENS = {"input_tokens": PROMPT_TOKENS, "output_tokens": 8}


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: Mapping[str, Any]

    @property
    def written(self) -> str:
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Turn:
    """A call, or else a text."""

    text: str = ""
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """`tools` by name, and the `results` of those called so far."""

    tools: frozenset[str]
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API. `needs`: the field without which a request asks for nothing."""

    needs: str
    read: Callable[[Any], Asked]
    stream: Callable[[Turn, int], Iterator[bytes]]
    document: Callable[[Turn, int], Any]


def _words(content: Any) -> str:
    return " ".join(words_of(content))


def _chat_asked(body: Any) -> Asked:
    tools = (tool.get("function") or {} for tool in body.get("tools") or ())
    results = (_words(m.get("content")) for m in body["messages"] if m["role"] == "tool")
    names = frozenset(tool.get("name", "") for tool in tools)
    return Asked(names, tuple(results))


def _chat_stream(turn: Turn, number: int) -> Iterator[bytes]:
    tail = {**_chat_tail(number), "object": "chat.completion.chunk"}

    def event(delta: Any, finish: str | None = None) -> bytes:
        choice = {"finish_reason": finish, "index": 0, "delta": delta}
        return sse({"choices": [choice], **tail})

    yield event({"role": "assistant", "content": None})
    if turn.call:
        function = {"name": turn.call.name, "arguments": ""}
        call = {"index": 0, "id": f"call{number}", "type": "function", "function": function}
        yield event({"tool_calls": [call]})
        for piece in _halves(turn.call.written):
            yield event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    for piece in _halves(turn.text):
        yield event({"content": piece})
    yield event({}, "tool_calls" if turn.call else "stop")
    yield sse({"choices": [], **tail, "usage": _USAGE})
    yield DONE


def _chat_document(turn: Turn, number: int) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text}
    if turn.call:
        function = {"name": turn.call.name, "arguments": turn.call.written}
        message["tool_calls"] = [{"type": "function", "function": function, "id": f"call{number}"}]
    finish = "tool_calls" if turn.call else "stop"
    choice = {"finish_reason": finish, "index": 0, "message": message}
    tail = {**_chat_tail(number), "object": "chat.completion"}
    return {"choices": [choice], **tail, "usage": _USAGE}


def _chat_tail(number: int) -> dict[str, Any]:
    named = {"model": "own", "system_fingerprint": FINGERPRINT}
    return {"created": int(time.time()), "id": f"chatcmpl-{number}", **named}


def _messages_asked(body: Any) -> Asked:
    blocks = (
        block
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block.get("type") == "tool_result"
    )
    tools = frozenset(tool.get("name", "") for tool in body.get("tools") or ())
    return Asked(tools, tuple(_words(block.get("content")) for block in blocks))


def _messages_stream(turn: Turn, number: int) -> Iterator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)

    start = _messages_document(turn, number)
    empty: Any = {"content": [], "stop_reason": None, "usage": {**_TOKENS, "output_tokens": 0}}
    yield event("message_start", message={**start, **empty})
    if turn.call:
        block = {"type": "tool_use", "id": f"toolu{number}", "name": turn.call.name}
        yield event("content_block_start", index=0, content_block=block)
        deltas = [
            {"type": "input_json_delta", "partial_json": p} for p in _halves(turn.call.written)
        ]
    else:
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        deltas = [{"type": "text_delta", "text": piece} for piece in _halves(turn.text)]
    for delta in deltas:
        yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    reason = {"stop_reason": start["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=reason, usage={"output_tokens": 8})
    yield event("message_stop")


def _messages_document(turn: Turn, number: int) -> Any:
    block: dict[str, Any] = {"type": "text", "text": turn.text}
    if turn.call:
        use = {"type": "tool_use", "id": f"toolu{number}", "name": turn.call.name}
        block = {**use, "input": turn.call.arguments}
    return {
        "id": f"chatcmpl-{number}",
        "type": "message",
        "role": "assistant",
        "content": [block],
        "model": "own",
        "stop_reason": "tool_use" if turn.call else "end_turn",
        "stop_sequence": None,
        "usage": _TOKENS,
    }


def _responses_asked(body: Any) -> Asked:
    items = body["input"] if isinstance(body["input"], list) else []
    results = (i.get("output") for i in items if i.get("type") == "function_call_output")
    tools = frozenset(tool.get("name", "") for tool in body.get("tools") or ())
    return Asked(tools, tuple(map(_words, results)))


def _responses_stream(turn: Turn, number: int) -> Iterator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)

    whole = _responses_document(turn, number)
    begun = {"id": whole["id"], "object": "response", "status": "in_progress"}
    (item,) = whole["output"]
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    if turn.call:
        started = {**item, "status": "in_progress", "arguments": ""}
        yield event("response.output_item.added", item=started)
        for piece in _halves(turn.call.written):
            yield event("response.function_call_arguments.delta", delta=piece, item_id=item["id"])
    else:
        (part,) = item["content"]
        started = {**item, "status": "in_progress", "content": []}
        empty = {"type": "output_text", "text": ""}
        yield event("response.output_item.added", item=started)
        yield event("response.content_part.added", item_id=item["id"], part=empty)
        for piece in _halves(turn.text):
            yield event("response.output_text.delta", item_id=item["id"], delta=piece)
        yield event("response.output_text.done", item_id=item["id"], text=turn.text)
        yield event("response.content_part.done", item_id=item["id"], part=part)
    yield event("response.output_item.done", item=item)
    yield event("response.completed", response=whole)


def _responses_document(turn: Turn, number: int) -> Any:
    item: dict[str, Any]
    if turn.call:
        item = {"id": f"fc_{number}", "type": "function_call", "status": "completed"}
        item |= {
            "arguments": turn.call.written,
            "call_id": f"call_{number}",
            "name": turn.call.name,
        }
    else:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": turn.text}
        item = {"type": "message", "status": "completed", "id": f"msg_{number}"}
        item |= {"content": [part], "role": "assistant"}
    details = {"input_tokens_details": {"cached_tokens": 0}}
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "own",
        "output": [item],
        "usage": {**_TOKENS, "total_tokens": 24, **details},
    }


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": Dialect("messages", _chat_asked, _chat_stream, _chat_document),
    "/v1/messages": Dialect("messages", _messages_asked, _messages_stream, _messages_document),
    "/v1/responses": Dialect("input", _responses_asked, _responses_stream, _responses_document),
}
