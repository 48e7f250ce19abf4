"""Chat completions: what their events and documents say."""

from __future__ import annotations

from schemas.api.base import Event, texts_of


class Chat:
    """See `schemas.api.base.Api`."""

    named = False
    limits = ("max_tokens", "max_completion_tokens")
    usual_limit = 0
    streamed = texts_of("content", "reasoning_content", "reasoning", "refusal", "arguments")
    written = streamed

    def text(self, event: Event) -> str:
        deltas = (choice.get("delta") or {} for choice in event.get("choices") or ())
        return "".join(delta.get("content") or "" for delta in deltas)


API = Chat()
