"""Puts the chunks of a chat or text completion together to one document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api.base import Document, Event

_GROWING = frozenset({"content", "reasoning_content", "reasoning", "refusal", "arguments", "text"})
"""Strings that arrive in parts. Every other field arrives whole, and its last value counts."""


class Collector:
    """See `schemas.api.base.Collector`. An answer may have several choices."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    @property
    def document(self) -> Document | None:
        """The document so far; None before the first choice."""
        if not self._choices:
            return None
        choices = [_joined(self._choices[index]) for index in sorted(self._choices)]
        kind = str(self._top.get("object", "")).removesuffix(".chunk")
        return {"choices": choices, **self._top, "object": kind}

    def add(self, event: Event) -> None:
        for choice in event.get("choices") or ():
            _add_choice(self._choices.setdefault(choice.get("index") or 0, {}), choice)
        self._top |= {name: value for name, value in event.items() if name != "choices"}

    def add_text(self, text: str) -> None:
        """Add text to the first choice of a chat; that choice must have begun with text already."""
        self._choices[0]["message"]["content"].append(text)


class _Parts(list[str]):
    """The parts of a string. They are joined once, because adding to a long string copies it."""


def _add_choice(state: dict[str, Any], choice: Mapping[str, Any]) -> None:
    for key, value in choice.items():
        if key == "delta":
            fresh = {"role": "assistant", "content": _Parts()}
            _add_delta(state.setdefault("message", fresh), value or {})
        elif key == "logprobs" and value:
            _add_logprobs(state, value)
        else:
            _add_field(state, key, value)


def _add_logprobs(state: dict[str, Any], part: Mapping[str, Any]) -> None:
    known = state.get("logprobs")
    if known is None:
        state["logprobs"] = dict(part)
        return
    for field, values in part.items():
        if isinstance(known.get(field), list) and isinstance(values, list):
            known[field].extend(values)
        else:
            known[field] = values


def _add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls":
            calls = message.setdefault(key, {})
            for call in value or ():
                # Without an index, each entry is a call of its own.
                _add_call(calls.setdefault(call.get("index", len(calls)), {}), call)
        else:
            _add_field(message, key, value)


def _add_call(state: dict[str, Any], call: Mapping[str, Any]) -> None:
    for key, value in call.items():
        if key == "function":
            function = state.setdefault(key, {})
            for field, part in value.items():
                _add_field(function, field, part)
        elif key != "index":
            _add_field(state, key, value)


def _add_field(state: dict[str, Any], key: str, value: Any) -> None:
    if value is None:  # takes back nothing: most chunks have null as their finish_reason
        state.setdefault(key, None)
    elif key in _GROWING and isinstance(value, str):
        if not isinstance(state.get(key), _Parts):
            state[key] = _Parts()
        state[key].append(value)
    else:
        state[key] = value


def _joined(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` with its texts joined and its tool calls in order."""
    out: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, _Parts):
            out[key] = "".join(value)
        elif key == "tool_calls":
            out[key] = [_joined(value[index]) for index in sorted(value)]
        elif key in ("message", "function"):
            out[key] = _joined(value)
        else:
            out[key] = value
    return out
