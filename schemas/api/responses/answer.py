"""The responses API: what its events and documents say."""

from __future__ import annotations

from schemas.api.base import Event, texts_of


class Responses:
    """See `schemas.api.base.Api`."""

    named = True
    limits = ("max_output_tokens",)
    usual_limit = 0
    streamed = texts_of("delta")
    """The events that end a part repeat all of it."""
    written = texts_of("text", "arguments")

    def text(self, event: Event) -> str:
        return str(event["delta"]) if event.get("type") == "response.output_text.delta" else ""


API = Responses()
