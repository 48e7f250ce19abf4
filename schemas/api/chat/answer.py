"""Chat completions: what their events and documents say."""

from __future__ import annotations

from schemas.api.base import Api, Event, texts_of


class Chat(Api):
    """See `schemas.api.base.Api`."""

    limits = ("max_tokens", "max_completion_tokens")
    streamed = texts_of("content", "reasoning_content", "reasoning", "refusal", "arguments")
    written = streamed

    def text(self, event: Event) -> str:
        deltas = (choice.get("delta") or {} for choice in event.get("choices") or ())
        return "".join(delta.get("content") or "" for delta in deltas)


API = Chat()
