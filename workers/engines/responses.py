"""llama-server's answers at ``/v1/responses``, as OpenAI documents them.

Measured on b11549: events have no `sequence_number`, `output_index` or `content_index`, on which
OpenAI's client library relies, and the first ones no `model` and `output`; an answer that was cut
at `max_output_tokens` says that it is complete; ``text.format`` is passed over in silence, while
chat's `response_format` works here too. The last event carries the whole document, without
`completed_at`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from workers.engines.rewrite import Event

_PARTS = ("response.content_part.", "response.output_text.", "response.refusal.")
_ITEMS = ("response.output_item.", "response.function_call_arguments.", "response.reasoning")


def prepare(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request to send: streamed, and its format where llama-server looks for it."""
    sent = {**request, "stream": True}
    wanted = (request.get("text") or {}).get("format")
    if wanted and wanted.get("type") in ("json_object", "json_schema"):
        inner = {name: value for name, value in wanted.items() if name != "type"}
        sent["response_format"] = {"type": wanted["type"], "json_schema": inner}
    return sent


class Numbered:
    """Puts in what the events lack."""

    def __init__(self, request: Mapping[str, Any], model: str) -> None:
        self.document: dict[str, Any] | None = None
        self._limit = request.get("max_output_tokens")
        self._model = model
        self._number = 0
        self._items: dict[str, int] = {}

    def change(self, event: Event) -> Event:
        kind = str(event.get("type"))
        if kind == "response.completed":
            event = self._completed(event)
        elif isinstance(event.get("response"), dict):  # it has begun
            begun = {"model": self._model, "output": [], "created_at": int(time.time())}
            event["response"] = {**begun, **event["response"]}
        event.setdefault("sequence_number", self._number)
        self._number += 1
        if kind.startswith((*_ITEMS, *_PARTS)):
            item = event.get("item") or {}
            known = str(item.get("id") or event.get("item_id"))
            event.setdefault("output_index", self._items.setdefault(known, len(self._items)))
        if kind.startswith(_PARTS):
            event.setdefault("content_index", 0)
        if kind.startswith("response.output_text."):
            event.setdefault("logprobs", [])
        return event

    def _completed(self, event: Event) -> Event:
        response = event["response"]
        response["model"] = self._model
        response.setdefault("completed_at", int(time.time()))
        spent = (response.get("usage") or {}).get("output_tokens")
        if self._limit is not None and spent is not None and spent >= self._limit:
            response["status"] = "incomplete"
            response["incomplete_details"] = {"reason": "max_output_tokens"}
            event["type"] = "response.incomplete"
        self.document = response
        return event
