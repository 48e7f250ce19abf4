"""Chats that a provider continues where a worker's stream broke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event, number
from schemas.api.chat.join import same

_SAME = ("id", "created", "system_fingerprint")
"""Fields that must not change within a stream."""
_PLAIN = frozenset({"role", "content"})


def may_continue(request: Mapping[str, Any]) -> bool:
    free = (request.get("response_format") or {}).get("type", "text") == "text"
    begun = request["messages"][-1].get("role") == "assistant"
    return free and not begun and request.get("n") in (None, 1) and not request.get("logprobs")


class Continuation:
    """See `schemas.api.base.Continuation`. The second part gets the id of the first part."""

    def __init__(self) -> None:
        self._same: Event = {}

    def heard(self, event: Event) -> str | None:
        self._same = self._same or same(event, _SAME)
        if "error" in event:
            return None
        text = ""
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            more = any(delta[name] for name in delta.keys() - _PLAIN) or choice.get("logprobs")
            if more or choice.get("index") or choice.get("finish_reason"):
                return None
            text += delta.get("content") or ""
        return text

    def told(self, event: Event, tokens: int) -> list[Event]:
        if "error" in event:
            return [event]
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            first = delta.pop("role", None) is not None
            if first and not any(delta.values()) and not choice.get("finish_reason"):
                return []  # it only announces the role, as the first part has done already
        if usage := event.get("usage"):
            event["usage"] = _moved(usage, tokens)
        return [{**event, **self._same}]


def _moved(usage: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """The provider counts the first part as prompt; the client gets it counted as completion."""
    prompt, completion = number(usage, "prompt_tokens"), number(usage, "completion_tokens")
    moved = min(tokens, prompt)
    counts = {"prompt_tokens": prompt - moved, "completion_tokens": completion + moved}
    return {**usage, **counts}
