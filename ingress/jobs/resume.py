"""A stream that broke with its worker, and the rest of it from a provider, as one.

Only text is spliced: what the client has is told as an assistant message that the provider goes on
from, and of its stream the beginning is left out, so that nothing is repeated and nothing missing.
An answer with anything else in it (tool calls, reasoning, log probabilities, several choices) is
not continued, nor one that must fit a schema. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import orjson

from schemas.api import endpoints

LIMIT = 256 * 1024
"""Bytes of events that are kept of one stream; a longer one is not continued."""
CHAT = endpoints.CHAT.path
MESSAGES = endpoints.MESSAGES.path
_SAME = ("id", "created", "system_fingerprint")
_PLAIN = frozenset({"role", "content"})


class _Events(Protocol):
    def heard(self, event: dict[str, Any]) -> str | None:
        """The text of an event of the first part; None if it has something that is not spliced."""

    def told(self, event: dict[str, Any], tokens: int) -> list[dict[str, Any]]:
        """What the client gets for an event of the second part; `tokens`: of the first part."""


class Splice:
    """Of one stream: `add` its pieces, `close` it where it broke, `add` those of the rest."""

    def __init__(self, endpoint: str) -> None:
        self._events: _Events = _Messages() if endpoint == MESSAGES else _Chat()
        self._named = endpoint == MESSAGES
        self._kept: list[bytes] = []
        self._size = 0
        self.text: str | None = None
        """What the client has, once `closed` says that it can be continued."""
        self.tokens = 0
        """Events with text in it: a worker sends one for each token."""

    def add(self, piece: bytes) -> bytes:
        """What the client gets for a piece of either part."""
        if self.closed:
            return self.join(piece)
        self.keep(piece)
        return piece

    def keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= LIMIT:
            self._kept.append(piece)

    def forget(self) -> None:
        """The client gets nothing of it."""
        self._kept.clear()
        self._size = 0

    @property
    def closed(self) -> bool:
        return self.text is not None

    def close(self) -> bool:
        """The stream broke here: whether it can be continued. It is, once."""
        if self.closed or self._size > LIMIT:
            return False
        text = ""
        for event in _parsed(b"".join(self._kept)):
            piece = self._events.heard(event) if event is not None else None
            if piece is None:
                return False
            text += piece
            self.tokens += bool(piece)
        self.forget()
        self.text = text
        return True

    def join(self, piece: bytes) -> bytes:
        """Events of the second part, as they are to follow the first; comments stay."""
        return b"".join(self._joined(block) for block in _blocks(piece))

    def _joined(self, block: bytes) -> bytes:
        event = _event(block)
        if not isinstance(event, dict):  # a comment, or [DONE]
            return block + b"\n\n"
        return b"".join(map(self._said, self._events.told(event, self.tokens)))

    def _said(self, event: dict[str, Any]) -> bytes:
        name = b"event: %b\n" % str(event["type"]).encode() if self._named else b""
        return name + b"data: %b\n\n" % orjson.dumps(event)


class _Chat:
    """Chunks of chat completions."""

    def __init__(self) -> None:
        self._same: dict[str, Any] = {}

    def heard(self, event: dict[str, Any]) -> str | None:
        if not self._same:
            self._same = {name: event[name] for name in _SAME if name in event}
        text = ""
        if "error" in event:
            return None
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            more = any(delta[name] for name in delta.keys() - _PLAIN) or choice.get("logprobs")
            if more or choice.get("index") or choice.get("finish_reason"):
                return None
            text += delta.get("content") or ""
        return text

    def told(self, event: dict[str, Any], tokens: int) -> list[dict[str, Any]]:
        if "error" in event:
            return [event]
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            first = delta.pop("role", None) is not None
            if first and not any(delta.values()) and not choice.get("finish_reason"):
                return []
        if usage := event.get("usage"):
            event["usage"] = _shifted(usage, "prompt_tokens", "completion_tokens", tokens)
        return [{**event, **self._same}]


class _Messages:
    """Events of Anthropic's messages."""

    def __init__(self) -> None:
        self._shift = 0
        self._open = False
        """Whether the first part has begun its block of text."""

    def heard(self, event: dict[str, Any]) -> str | None:
        match event.get("type"):
            case "message_start" | "ping":
                return ""
            case "content_block_start" if _is_text(event) and not self._open:
                self._open = True
                return str(event["content_block"].get("text") or "")
            case "content_block_delta" if event["delta"].get("type") == "text_delta":
                return str(event["delta"]["text"])
        return None

    def told(self, event: dict[str, Any], tokens: int) -> list[dict[str, Any]]:
        match event.get("type"):
            case "message_start":
                return []
            case "content_block_start" if self._open and event["index"] == 0:
                if _is_text(event):
                    return []
                self._shift = 1
                ended = {"type": "content_block_stop", "index": 0}
                return [ended, {**event, "index": 1}]
            case "message_delta" if usage := event.get("usage"):
                return [{**event, "usage": _shifted(usage, "", "output_tokens", tokens)}]
        if "index" in event:
            return [{**event, "index": event["index"] + self._shift}]
        return [event]


def fits(endpoint: str, asked: Mapping[str, Any]) -> bool:
    """Whether a stream that was asked for like this may be spliced, if it is but text."""
    if endpoint not in (CHAT, MESSAGES) or asked["messages"][-1].get("role") == "assistant":
        return False
    if endpoint == MESSAGES:
        return bool((asked.get("thinking") or {}).get("type", "disabled") == "disabled")
    free = bool((asked.get("response_format") or {}).get("type", "text") == "text")
    return free and asked.get("n") in (None, 1) and not asked.get("logprobs")


def _shifted(usage: Mapping[str, Any], read: str, written: str, tokens: int) -> dict[str, Any]:
    """The first part was read by who wrote the second: it counts as written."""
    moved = min(tokens, int(usage.get(read) or 0)) if read else tokens
    found = {**usage, written: int(usage.get(written) or 0) + moved}
    if read:
        found[read] = int(usage.get(read) or 0) - moved
    return found


def _is_text(event: Mapping[str, Any]) -> bool:
    return (event.get("content_block") or {}).get("type") == "text"


def _parsed(stream: bytes) -> Iterator[dict[str, Any] | None]:
    """The events; None for one that is no object, as [DONE] is none."""
    for block in _blocks(stream):
        event = _event(block)
        if event is not _NOTHING:
            yield event if isinstance(event, dict) else None


def _blocks(stream: bytes) -> Iterator[bytes]:
    for block in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        if block.strip():
            yield block


_NOTHING = object()


def _event(block: bytes) -> Any:
    """The data of a block; `_NOTHING` if it has none, as a comment."""
    lines = [line[5:] for line in block.split(b"\n") if line.startswith(b"data:")]
    if not lines:
        return _NOTHING
    try:
        return orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return None
