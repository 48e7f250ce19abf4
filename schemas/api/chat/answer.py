"""Chat completions: how to read their events and documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from schemas.api.base import Document, Event, texts_of
from schemas.api.chat import continuation as parts
from schemas.api.chat import formats
from schemas.api.choices import ChoicesApi
from schemas.api.reasoning import Reasoning, of_effort


class Chat(ChoicesApi):
    """See `schemas.api.base.Api`."""

    prompt = "messages"
    format_fields = frozenset({"response_format", "tools"})
    text_formats = frozenset({"response_format"})
    own_tools = ("function",)
    limits = ("max_tokens", "max_completion_tokens")
    at_limit: ClassVar[Mapping[str, str]] = {
        "content": "",
        "reasoning_content": "",
        "finish_reason": "length",
    }
    streamed = texts_of("content", "reasoning_content", "reasoning", "refusal", "arguments")
    written = streamed
    call = rb'"tool_calls"'

    def reasoning(self, request: Mapping[str, Any]) -> Reasoning:
        """Ollama's `think`, which some clients send in chats, counts before OpenAI's field."""
        think = request.get("think")
        return of_effort(request.get("reasoning_effort") if think is None else think)

    json_formats = staticmethod(formats.formats_of)
    finished = staticmethod(formats.finished)
    finished_in_stream = staticmethod(formats.FinishedParts)
    objected = staticmethod(formats.objected)
    may_continue = staticmethod(parts.may_continue)
    shows_thoughts = staticmethod(parts.shows_thoughts)
    continuation = staticmethod(parts.Continuation)
    with_beginning = staticmethod(parts.with_beginning)

    def first_call(self) -> FirstCall:
        return FirstCall()


API = Chat()


class FirstCall:
    """Each choice numbers its calls with `index`; only the first chunk of a call has an `id`."""

    def __init__(self) -> None:
        self.begun = False
        self._now: dict[Any, tuple[Any, Any]] = {}
        self._first: dict[Any, tuple[Any, Any]] = {}

    def change(self, event: Event) -> Event | None:
        choices = event.get("choices") or []
        event["choices"] = [choice for choice in choices if self._kept(choice)]
        # An event that came without choices passes: it has the usage, or it is Azure's first one.
        return event if event["choices"] or not choices or event.get("usage") else None

    def document(self, found: Document) -> None:
        for choice in found.get("choices") or ():
            if calls := choice["message"].get("tool_calls"):
                choice["message"]["tool_calls"] = calls[:1]

    def _kept(self, choice: dict[str, Any]) -> bool:
        """Remove later calls from `choice`; whether anything is left in it."""
        delta = choice.get("delta") or {}
        calls = delta.get("tool_calls")
        if not calls:
            return True
        delta["tool_calls"] = [c for c in calls if self._is_first(choice.get("index"), c)]
        if delta["tool_calls"]:
            return True
        del delta["tool_calls"]
        # The end of the choice, or text beside the removed calls, still has to reach the client.
        return bool(choice.get("finish_reason")) or any(delta.values())

    def _is_first(self, choice: Any, call: Mapping[str, Any]) -> bool:
        """Some engines give all calls the same index, so a new id also begins a new call."""
        place = call.get("index", 0)
        known = self._now.get((choice, place), (place, call.get("id")))
        now = self._now[choice, place] = (place, call.get("id") or known[1])
        return self._first.setdefault(choice, now) == now
