"""Anthropic's messages: what their events and documents say."""

from __future__ import annotations

from schemas.api.base import Event, texts_of


class Messages:
    """See `schemas.api.base.Api`."""

    named = True
    limits = ()
    """A request must have `max_tokens`."""
    usual_limit = 0
    streamed = texts_of("text", "partial_json", "thinking")
    written = streamed

    def text(self, event: Event) -> str:
        delta = event.get("delta") or event.get("content_block") or {}
        return str(delta.get("text") or "")


API = Messages()
