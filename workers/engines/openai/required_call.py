"""A tool call that the client insists on, of an engine that leaves it to the model.

Whether it came is only known once it begins. Until then the answer is held back, so that a refusal
still has its status, streamed or not; from then on it passes as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from schemas.nodes import ServedModel
from workers.engines.base import Between, Sink
from workers.engines.openai.refusal import Refusal

TOOL_CHOICE = b'"tool_choice"'

LEFT_OPEN: tuple[Any, ...] = (
    *("auto", "none", {"type": "auto"}, {"type": "none"}),
    *({"type": "auto", "disable_parallel_tool_use": only} for only in (False, True)),
)
"""Values of it that ask for no call."""

_CALLS: Mapping[str, bytes] = {
    "chat": b'"tool_calls"',
    "responses": b'"type":"function_call"',
    "messages": b'"type":"tool_use"',
}
"""What an answer with a call has, by the feature of its endpoint. Inside a text the quotes would be
escaped."""
_NAMED: Mapping[str, bytes] = {
    "chat": b'"name":%b',
    "responses": rb'"call_id":"[^"]*",(?:"[a-z_]+":"[^"]*",)*"name":%b',
    "messages": b'"name":%b',
}
"""The same for one tool: an answer of the responses API has the names of all others, too."""


class Owed(Between):
    """A Sink before the Sink. `why`: what is said of the engine if no call comes."""

    def __init__(self, inner: Sink, request: Mapping[str, Any], feature: str, why: str) -> None:
        super().__init__(inner)
        name = _name(request.get("tool_choice"))
        self._missing = [re.compile(_CALLS[feature])]
        if name:
            self._missing.append(re.compile(_NAMED[feature] % re.escape(orjson.dumps(name))))
        self._what = f"a call of {name!r}" if name else "a tool call"
        self._why = why
        self._head: tuple[int, str] | None = None
        self._held = bytearray()
        self.start = self._begin

    def _begin(self, status: int, content_type: str) -> None:
        self._head = status, content_type

    def data(self, chunk: bytes) -> None:
        """Whole events, or the one document."""
        if self._head is None:
            self._inner.data(chunk)
            return
        self._held += chunk
        self._missing = [sign for sign in self._missing if not sign.search(chunk)]
        if self._missing:
            self._inner.touch()
            return
        self._inner.start(*self._head)
        self._inner.data(bytes(self._held))
        self._head = None

    def close(self) -> None:
        """Raises Refusal if the call has not come."""
        if self._head is not None:
            raise Refusal(
                f"The model answered without {self._what}, which 'tool_choice' asks for: "
                f"{self._why}. Leave it out, or send the header 'x-headrace-lenient: true'.",
                param="tool_choice",
                code="unsupported_parameter",
                source="engine",
            )


def owed(sink: Sink, body: bytes, model: ServedModel, feature: str) -> Owed | None:
    """None if nothing is wanted but what the engine gives. Other endpoints have no calls."""
    tried = [each for each in model.ignores if each.tried and feature in each.at]
    if not tried or feature not in _CALLS:
        return None
    request = orjson.loads(body)
    wanted = next((each for each in tried if each.wanted(request)), None)
    return Owed(sink, request, feature, wanted.why) if wanted else None


def _name(choice: object) -> str:
    """Of the one tool that is to be called; "" for any."""
    if not isinstance(choice, Mapping):
        return ""
    inner = choice.get("function")
    found = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
    return found if isinstance(found, str) else ""
