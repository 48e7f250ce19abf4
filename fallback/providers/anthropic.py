"""Anthropic: messages go to its own API, chat to its OpenAI-compatible surface.

The page "OpenAI SDK compatibility" lists what that surface ignores, and requests that ask for it do
not go there. `kinds` lists whole fields; this module looks inside of fields. Converting chat to
messages ourselves would not save more: messages lack all that the surface drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fallback.providers import kinds
from fallback.providers.base import Task
from fallback.providers.openai import OpenAIProvider

_UNHEARD = frozenset({"input_audio", "file"})
"""Types of parts that the surface drops."""
_WARMEST = 1
"""The highest temperature there; OpenAI's is 2."""


class Anthropic(OpenAIProvider):
    def unfit(self, task: Task) -> str:
        why = super().unfit(task) or _unbegun(task)
        if why or task.job.endpoint != kinds.CHAT:
            return why
        request = task.request
        unheard = next((k for k in _kinds_of_parts(request) if k in _UNHEARD), "")
        if unheard:
            return f"a part of type {unheard!r} would be lost"
        if task.job.lenient:
            return ""
        if (request.get("temperature") or 0) > _WARMEST:
            return "'temperature' would be cut to 1"
        if any((tool.get("function") or {}).get("strict") for tool in request.get("tools") or ()):
            return "'strict' of a tool would be lost"
        return ""


def _unbegun(task: Task) -> str:
    """Why an answer that was begun cannot be continued: Anthropic refuses a last message that ends
    in white space. "" if it can."""
    text = task.job.begun.text if task.job.begun else ""
    return "it does not go on from white space" if text != text.rstrip() else ""


def _kinds_of_parts(request: Mapping[str, Any]) -> Iterator[str]:
    for message in request.get("messages") or ():
        content = message.get("content")
        if isinstance(content, list):
            yield from (str(part.get("type")) for part in content)
