"""Reads answers of every kind into one form, and says what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.api import endpoints
from tests.chaos.asks import Ask

_COMPLETE = frozenset({"response.completed", "response.incomplete"})
_ENDS = _COMPLETE | {"message_stop"}


@dataclass
class Said:
    """What an answer said: `texts` by choice, `calls` by their index, and how often it said what
    must come once."""

    texts: dict[int, str] = field(default_factory=dict)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    vectors: list[Any] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    roles: int = 0
    finishes: int = 0
    ends: int = 0
    usage: tuple[int, int] | None = None
    error: str = ""

    def add(self, choice: int, text: str | None) -> None:
        self.texts[choice] = self.texts.get(choice, "") + (text or "")

    def call(self, index: int, found: dict[str, Any]) -> None:
        function = found.get("function") or {}
        call = self.calls.setdefault(index, {"name": "", "arguments": ""})
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def count(self, usage: dict[str, Any] | None) -> None:
        if usage:
            prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
            # Messages tell apart what was read from a cache.
            prompt = (prompt or 0) + (usage.get("cache_read_input_tokens") or 0)
            done = usage.get("completion_tokens", usage.get("output_tokens"))
            before = self.usage or (0, 0)
            self.usage = (max(before[0], prompt), done or 0)


def events(raw: bytes) -> Iterator[bytes]:
    """The data of each whole event."""
    whole, _, _ = raw.rpartition(b"\n\n")
    for event in whole.split(b"\n\n"):
        for line in event.split(b"\n"):
            if line.startswith(b"data: "):
                yield line[6:]


def streamed(raw: bytes) -> Said:
    said = Said()
    for data in events(raw):
        if data == b"[DONE]":
            said.ends += 1
            continue
        event = json.loads(data)
        said.ends += event.get("type") in _ENDS
        if event.get("error"):
            said.error = _code(event["error"])
        elif "choices" in event:
            _chunk(said, event)
        else:
            _named(said, event)
    return said


def _chunk(said: Said, event: dict[str, Any]) -> None:
    said.ids.add(event["id"])
    said.count(event.get("usage"))
    for choice in event["choices"]:
        delta = choice.get("delta") or {}
        said.add(choice["index"], choice.get("text") or delta.get("content"))
        said.roles += "role" in delta
        said.finishes += choice.get("finish_reason") is not None
        for call in delta.get("tool_calls") or ():
            said.call(call["index"], call)


def _named(said: Said, event: dict[str, Any]) -> None:
    """An event of the responses' or the messages' API."""
    kind = event.get("type", "")
    whole = event.get("response") or event.get("message") or {}
    if isinstance(whole, dict) and "id" in whole:
        said.ids.add(whole["id"])
        said.count(whole.get("usage"))
    if kind in ("response.created", "message_start"):
        said.roles += 1
    elif kind == "response.output_text.delta":
        said.add(0, event["delta"])
    elif kind == "content_block_delta":
        said.add(0, event["delta"].get("text"))
    elif kind == "message_delta":
        said.count(event.get("usage"))
        said.finishes += event["delta"].get("stop_reason") is not None
    elif kind in _COMPLETE:
        said.finishes += 1
        if (text := _output(whole)) != said.texts.get(0, ""):
            said.error = f"the completed response has another text: {text!r}"


def document(found: dict[str, Any]) -> Said:
    said = Said()
    said.count(found.get("usage"))
    for choice in found.get("choices") or ():
        message = choice.get("message") or {}
        said.add(choice.get("index", 0), choice.get("text") or message.get("content"))
        for index, call in enumerate(message.get("tool_calls") or ()):
            said.call(index, call)
    if "output" in found:
        said.add(0, _output(found))
    if found.get("type") == "message":
        said.add(0, "".join(block.get("text", "") for block in found["content"]))
    said.vectors = [each["embedding"] for each in found.get("data") or ()]
    return said


def _output(response: dict[str, Any]) -> str:
    parts = (part for item in response["output"] for part in item.get("content") or ())
    return "".join(part.get("text", "") for part in parts)


def error_code(raw: bytes) -> str:
    """The code of a document that says an error."""
    try:
        return _code(json.loads(raw)["error"])
    except (ValueError, KeyError, TypeError):
        return f"no error document: {raw[:80]!r}"


def _code(error: Any) -> str:
    return str((error.get("code") or error.get("type")) if isinstance(error, dict) else error)


def fault(ask: Ask, said: Said) -> str:
    """What is wrong with a whole answer, or ""."""
    if wrong := _wrong(ask, said):
        return wrong
    if ask.usage[1] and said.usage is not None and said.usage != ask.usage:
        return f"usage {said.usage}, not {ask.usage}"
    if not ask.stream:
        return ""
    return _repeated(ask, said)


def begun(ask: Ask, said: Said) -> str:
    """What is wrong with a part of an answer, or ""."""
    for choice, text in said.texts.items():
        if isinstance(ask.texts[0], str) and not ask.texts[choice].startswith(text):
            return f"said {text!r}, which is no beginning of {ask.texts[choice]!r}"
    return ""


def _wrong(ask: Ask, said: Said) -> str:
    first = ask.texts[0]
    if isinstance(first, list):
        return "" if said.vectors == ask.texts else f"another vector: {said.vectors}"
    if isinstance(first, dict):
        call = said.calls.get(0, {"name": "", "arguments": "null"})
        right = call["name"] == first["name"] and call["arguments"] == _dumped(first["arguments"])
        return "" if right and len(said.calls) == 1 else f"another call: {said.calls}"
    found = [said.texts.get(choice, "") for choice in range(len(ask.texts))]
    return "" if found == ask.texts else f"said {found}, not {ask.texts}"


def _dumped(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, separators=(",", ":"))


def _repeated(ask: Ask, said: Said) -> str:
    choices = len(ask.texts)
    chat = ask.path == endpoints.CHAT.path
    plain = ask.path == endpoints.COMPLETIONS.path
    if said.ends != 1 or said.finishes != choices or len(said.ids) != 1:
        return f"{said.ends} ends, {said.finishes} finish reasons, {len(said.ids)} ids"
    if not plain and said.roles != (choices if chat else 1):
        return f"{said.roles} roles"
    return ""
