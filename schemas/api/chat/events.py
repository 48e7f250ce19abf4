"""The events of a chat or a text completion that came as one document. Pure."""

from __future__ import annotations

from typing import Any

from schemas.api.base import Document, Event

_CHUNK = {"chat.completion": "chat.completion.chunk"}


def events_of(document: Document, usage: bool) -> list[Event]:
    """`usage`: whether the last event tells the usage."""
    top = {name: value for name, value in document.items() if name not in ("choices", "usage")}
    if "object" in top:  # a text completion has one word for both forms
        top["object"] = _CHUNK.get(top["object"], top["object"])
    choices = document.get("choices") or ()
    said = [{**top, "choices": [_said(choice)]} for choice in choices]
    ended = [{**top, "choices": [_ended(choice)]} for choice in choices]
    told = document.get("usage") if usage else None
    return [*said, *ended, *([{**top, "choices": [], "usage": told}] if told else [])]


def _said(choice: dict[str, Any]) -> dict[str, Any]:
    found = {**choice, "finish_reason": None}
    if isinstance(message := found.pop("message", None), dict):
        found["delta"] = {**message, **_numbered(message)}
    return found


def _numbered(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return {}
    # Only in a stream do calls say their place.
    return {"tool_calls": [{"index": place, **call} for place, call in enumerate(calls)]}


def _ended(choice: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"text": ""} if "text" in choice else {"delta": {}}
    reason = choice.get("finish_reason") or "stop"
    return {"index": choice.get("index", 0), **empty, "finish_reason": reason}
