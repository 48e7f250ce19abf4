"""What chats and text completions share: an answer is a list of choices, and streams end with
``[DONE]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.api import sse
from schemas.api.base import Api, Document, Error, Event
from schemas.api.chat import events
from schemas.api.chat.collector import Collector
from schemas.api.chat.join import Join

_FAILED = "error"
"""The finish reason with which vLLM and OpenRouter end an answer that they could not finish."""


class ChoicesApi(Api):
    """See `schemas.api.base.Api`."""

    asks_for_usage = True
    answer = re.compile(rb'"choices"\s*:\s*\[\s*\{')

    def failure(self, found: Event | Document) -> Error | None:
        """The error may also be inside of a choice, as OpenRouter writes it."""
        return super().failure(found) or next(filter(None, map(_error_in, choices_of(found))), None)

    def missing_end(self, events: bytes) -> bytes:
        """Servers that leave out ``[DONE]`` still send a finish reason for each choice. Behind it
        others may come without one: Azure's filter judges late, and some usage has a choice."""
        reasons = dict[Any, Any]()
        for event in sse.objects(events):
            for choice in choices_of(event):
                place = choice.get("index", 0)
                reasons[place] = choice.get("finish_reason") or reasons.get(place)
        return sse.DONE if reasons and all(reasons.values()) else b""

    collector = staticmethod(Collector)
    events_of = staticmethod(events.events_of)
    join = staticmethod(Join)


def choices_of(found: Event | Document) -> Iterator[dict[str, Any]]:
    choices = found.get("choices")
    return (each for each in (choices if isinstance(choices, list) else ()) if type(each) is dict)


def _error_in(choice: Mapping[str, Any]) -> Error | None:
    if error := choice.get("error"):
        return error if isinstance(error, dict) else {"message": str(error)}
    if choice.get("finish_reason") == _FAILED:
        return {"message": f"the answer ended with the finish reason {_FAILED!r}"}
    return None
