"""Enforces a tool call that the client requires but the engine leaves to the model.

The answer is held back until the call begins, so that a refusal can still send its own status,
streamed or not. Once the call begins, the answer passes as it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import errors
from schemas.api import endpoints
from schemas.api.base import Api
from schemas.nodes import ServedModel
from workers.engines.base import Sink
from workers.engines.openai import parsed
from workers.engines.openai.refusal import Refusal
from workers.engines.openai.stream import Filter

TOOL_CHOICE = b'"tool_choice"'

LEFT_OPEN: tuple[Any, ...] = (
    *("auto", "none", {"type": "auto"}, {"type": "none"}),
    *({"type": "auto", "disable_parallel_tool_use": only} for only in (False, True)),
)
"""Values of `tool_choice` that require no call."""


class RequiredCall(Filter):
    """A Sink before the Sink. `choice`: the request's `tool_choice`. `why`: the reason for the
    refusal if no call comes."""

    def __init__(self, inner: Sink, api: Api, choice: object, why: str) -> None:
        super().__init__(inner)
        name = _name(choice)
        self._missing = api.call_signs(name)
        self._what = f"a call of {name!r}" if name else "a tool call"
        self._why = why
        self._head: tuple[int, str] | None = None
        self._held = bytearray()
        self.start = self._keep_head

    def _keep_head(self, status: int, content_type: str) -> None:
        self._head = status, content_type

    def data(self, chunk: bytes) -> None:
        """`chunk`: whole events, or the whole document."""
        if self._head is None:
            self._inner.data(chunk)
            return
        self._held += chunk
        # A call and the name that was asked for may be seen in different pieces.
        self._missing = [sign for sign in self._missing if not sign.search(chunk)]
        if self._missing:
            self._inner.touch()
            return
        self._inner.start(*self._head)
        self._inner.data(bytes(self._held))
        self._head = None

    def close(self) -> None:
        """Raises Refusal if no call has come."""
        if self._head is not None:
            raise Refusal(
                f"The model answered without {self._what}, which 'tool_choice' asks for: "
                f"{self._why}. Leave it out, or send the header 'x-headrace-lenient: true'.",
                param="tool_choice",
                code=errors.InvalidStructuredOutput.code,
                status=errors.InvalidStructuredOutput.status,
                source="engine",
            )


def required(sink: Sink, body: bytes, model: ServedModel, path: str) -> RequiredCall | None:
    """A RequiredCall, or None if the engine obeys the request or the API at `path` has no calls."""
    found = endpoints.BY_PATH.get(path)
    if found is None or not found.api.call or not found.stream:  # a count of tokens has no calls
        return None
    tried = [each for each in model.ignores if each.tried and found.word in each.at]
    if not tried:
        return None
    request = parsed.load(body)
    wanted = next((each for each in tried if each.wanted(request)), None)
    return RequiredCall(sink, found.api, request.get("tool_choice"), wanted.why) if wanted else None


def _name(choice: object) -> str:
    """The name of the tool that must be called; "" if any may be."""
    if not isinstance(choice, Mapping):
        return ""
    inner = choice.get("function")
    found = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
    return found if isinstance(found, str) else ""
