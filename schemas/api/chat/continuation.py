"""Chats that go on where their stream broke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event, Outline, Request
from schemas.api.chat.join import same

SAME = ("id", "created", "system_fingerprint")
"""Fields that must not change within a stream."""
_PLAIN = frozenset({"role", "content"})
_THOUGHTS = ("reasoning_content", "reasoning")
"""Servers write one of them, or the same in both."""
_SHOWN = ("include_reasoning", "reasoning", "think")
"""Fields of other servers that ask for thoughts. OpenAI's chats have none."""


def may_continue(request: Mapping[str, Any]) -> bool:
    begun = request["messages"][-1].get("role") == "assistant"
    return not begun and request.get("n") in (None, 1) and not request.get("logprobs")


def shows_thoughts(request: Mapping[str, Any]) -> bool:
    return any(map(request.get, _SHOWN))


def with_beginning(request: Request, text: str) -> Request:
    """The request with `text` as a last message, which engines go on from; Anthropic's, too."""
    said = [{"role": "assistant", "content": text}] if text else []
    return {**request, "messages": [*request["messages"], *said]}


class Continuation:
    """See `schemas.api.base.Continuation`. Later parts get the id of the first part."""

    closed = False
    """Chats say that a text is whole with the reason why, which is all that is missing then."""

    def closing(self, outline: Outline, tokens: int) -> list[Event]:
        return []

    def __init__(self) -> None:
        self.thought = ""
        self.begins_anew = False
        self._same: Event = {}

    def heard(self, event: Event) -> str | None:
        self._same = self._same or same(event, SAME)
        if event.get("error"):
            return None
        text = self.thought = ""
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            more = {name for name in delta.keys() - _PLAIN if delta[name]}
            other = (more and more.difference(_THOUGHTS)) or choice.get("logprobs")
            # A call, log-probabilities, a further choice, or the end of this one.
            if other or choice.get("index") or choice.get("finish_reason"):
                return None
            text += delta.get("content") or ""
            if more:
                self.thought += str(delta.get(_THOUGHTS[0]) or delta[_THOUGHTS[1]])
        return text

    def told(self, event: Event, text: str) -> list[Event]:
        if event.get("error"):
            return [event]
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            known = [] if choice.get("index") else [delta.pop("role", None)]
            if self.begins_anew:
                known += [delta.pop(name, None) for name in _THOUGHTS]
            if any(known) and not any(delta.values()) and not choice.get("finish_reason"):
                return []  # it only says what the first part has said already
        return [{**event, **self._same}]
