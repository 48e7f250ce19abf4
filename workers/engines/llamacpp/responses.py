"""Mends llama-server's answers at ``/v1/responses``, so that they are as OpenAI documents them.

Measured on b11549: events lack `sequence_number`, `output_index` and `content_index`, which
OpenAI's client library needs. The first events lack `model` and `output`. No event opens or closes
the part with a thought, or says that a call's arguments are done. An answer that was cut, at
`max_output_tokens` or where its slot's context is full, claims to be complete; so does one that
the server's own limit (`--n-predict`) cut, of which only JSON without an end tells. The last event
carries the whole document, but without `completed_at` and the request's fields. If the first token
is only part of a character (an emoji), the events of the beginning come again with each token.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from schemas.api import json_format
from schemas.api.base import Event
from schemas.api.responses import whole

_PARTS = ("response.content_part.", "response.output_text.", "response.refusal.")
_THOUGHTS = "response.reasoning_text."
_BEGINNINGS = ("response.created", "response.in_progress")
_ITEMS = ("response.output_item.", "response.function_call_arguments.", "response.reasoning")


class Repair:
    """Adds the fields and the events that are missing. `context`: tokens of a slot, if known."""

    def __init__(self, request: Mapping[str, Any], model: str, context: int = 0) -> None:
        self._limit = request.get("max_output_tokens")
        self._context = context
        asked = (request.get("text") or {}).get("format") or {}
        self._is_json = asked.get("type") in json_format.TYPES
        self._model = model
        self._asked = whole.asked(request)
        self._number = 0
        self._items: dict[str, int] = {}
        self._begun: set[str] = set()
        self._thoughts: dict[str, int] = {}
        """By item: the number of pieces of a thought; each piece is a token."""
        self._told = False
        """Whether the engine itself says that a call's arguments are done."""

    def change(self, event: Event) -> list[Event]:
        if self._again(event):
            return []
        return [self._numbered(each) for each in self._all(event)]

    def _again(self, event: Event) -> bool:
        """Whether the event says again that the answer begins."""
        kind = str(event.get("type"))
        if kind not in _BEGINNINGS or "prompt_progress" in event:
            return False
        begun = kind in self._begun
        self._begun.add(kind)
        return begun

    def _all(self, event: Event) -> Iterator[Event]:
        """The event, after the events that must come before it."""
        match event.get("type"):
            case "response.completed":
                event = self._completed(event)
            case "response.reasoning_text.delta":
                known = event["item_id"]
                if known not in self._thoughts:
                    yield _part("response.content_part.added", known, "")
                self._thoughts[known] = self._thoughts.get(known, 0) + 1
            case "response.function_call_arguments.done":
                self._told = True
            case "response.output_item.done":
                yield from self._ending(event["item"])
            case _ if isinstance(event.get("response"), dict):  # the answer has begun
                begun = {"model": self._model, "output": [], "created_at": int(time.time())}
                event["response"] = {**begun, **self._asked, **event["response"]}
        yield event

    def _ending(self, item: Event) -> Iterator[Event]:
        known = item.get("id")
        if item.get("type") == "reasoning":
            item.setdefault("status", "completed")
            if known in self._thoughts:
                text = "".join(part["text"] for part in item.get("content") or ())
                yield {"type": "response.reasoning_text.done", "item_id": known, "text": text}
                yield _part("response.content_part.done", known, text)
        elif item.get("type") == "function_call" and not self._told:
            told = {"item_id": known, "name": item["name"], "arguments": item["arguments"]}
            yield {"type": "response.function_call_arguments.done", **told}

    def _numbered(self, event: Event) -> Event:
        kind = str(event.get("type"))
        event.setdefault("sequence_number", self._number)
        self._number += 1
        if kind.startswith((*_ITEMS, *_PARTS)):
            item = event.get("item") or {}
            known = str(item.get("id") or event.get("item_id"))
            event.setdefault("output_index", self._items.setdefault(known, len(self._items)))
        if kind.startswith((*_PARTS, _THOUGHTS)):
            event.setdefault("content_index", 0)
        if kind.startswith("response.output_text."):
            event.setdefault("logprobs", [])
        elif kind.startswith("response.content_part.") and event["part"]["type"] == "output_text":
            event["part"] = {"annotations": [], "logprobs": [], **event["part"]}
        return event

    def _completed(self, event: Event) -> Event:
        response = event["response"]
        response["model"] = self._model
        response.setdefault("completed_at", int(time.time()))
        usage = response.get("usage") or {}
        spent = usage.get("output_tokens")
        if spent is not None:
            # llama-server does not count thoughts apart; it sends an event for each token of them.
            thought = {"reasoning_tokens": min(spent, sum(self._thoughts.values()))}
            usage.setdefault("output_tokens_details", thought)
        cut = self._limit is not None and spent is not None and spent >= self._limit
        full = self._context and usage.get("total_tokens") == self._context
        if cut or full or any(map(_has_no_end, self._written(response))):
            response["status"] = "incomplete"
            response["incomplete_details"] = {"reason": "max_output_tokens"}
            event["type"] = "response.incomplete"
        whole.fill(response, self._asked)
        return event

    def _written(self, response: Event) -> Iterator[str]:
        """What has to be JSON, as the engine's grammar lets nothing else end."""
        for item in response.get("output") or ():
            if item.get("type") == "function_call":
                yield item.get("arguments") or ""
            elif self._is_json and item.get("type") == "message":
                yield from (part.get("text") or "" for part in item.get("content") or ())


def _has_no_end(text: str) -> bool:
    """Whether it is the beginning of a JSON text."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        return 0 < len(text) <= fault.pos
    return False


def _part(kind: str, item: str | None, text: str) -> Event:
    return {"type": kind, "item_id": item, "part": {"type": "reasoning_text", "text": text}}
