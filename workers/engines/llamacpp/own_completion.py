"""llama-server's own text completion, also of a text between two others. It is streamed always
(`aggregate` says why). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event, Usage
from schemas.api.own_completion import API, Collector, chosen
from workers.engines.llamacpp import native


class OwnCompletion:
    """One request and its answer. `sent`: what goes to the server. `marker`: the server's own for a
    picture. `name`: the model's, as the client said it."""

    def __init__(self, request: Mapping[str, Any], marker: str, name: str) -> None:
        self.sent = {**request, "stream": True}
        if "prompt" in request:
            self.sent["prompt"] = native.marked(request["prompt"], marker)
        if isinstance(stop := request.get("stop"), str):
            self.sent["stop"] = [stop]
        self._name = name
        self._fields: list[str] = self.sent.pop("response_fields", None) or []
        self._ids = bool(request.get("return_tokens"))
        self._collector = Collector()

    @property
    def whole(self) -> bool:
        return self._collector.whole

    def change(self, event: Event) -> Event:
        """What a client that streams gets for an event."""
        self._collector.add(event)
        if "model" in event:
            event["model"] = self._name
        return chosen(event, self._fields) if self._fields and event.get("stop") else event

    @property
    def document(self) -> Any:
        """Of a document the server leaves out the ids, unless it is asked for them."""
        found = self._collector.document
        answers = found if isinstance(found, list) else [found] if found else []
        for each in answers:
            each["tokens"] = each.get("tokens") if self._ids else []
            if isinstance(told := each.get("generation_settings"), dict):
                told["stream"] = False
        said = [chosen(each, self._fields) if self._fields else each for each in answers]
        return said if isinstance(found, list) else said[0] if said else None

    @property
    def usage(self) -> Usage:
        found = [each for end in self._collector.ended.values() if (each := API.usage(end))]
        return Usage(
            sum(each.prompt for each in found),
            sum(each.completion for each in found),
            sum(each.cached for each in found),
        )
