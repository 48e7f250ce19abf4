"""The responses API: what its events and documents say."""

from __future__ import annotations

from schemas.api import sse
from schemas.api.base import Api, Error, Event, texts_of


class Responses(Api):
    """See `schemas.api.base.Api`."""

    named = True
    limits = ("max_output_tokens",)
    streamed = texts_of("delta")
    """The events that end a part repeat all of it."""
    written = texts_of("text", "arguments")

    def text(self, event: Event) -> str:
        return str(event["delta"]) if event.get("type") == "response.output_text.delta" else ""

    def error_event(self, error: Error, status: int, request_id: str) -> bytes:
        """With `error` beside the documented fields: clients of OpenAI raise where they see it."""
        told = {name: error.get(name) for name in ("code", "message", "param")}
        return sse.dump({"type": "error", **told, "error": error}, named=True)


API = Responses()
