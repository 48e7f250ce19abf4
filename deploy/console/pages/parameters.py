"""The parameters of a chat. A field without a value is not sent, so the engine's own default
holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui

from deploy.console.pages.abilities import Model
from deploy.console.pages.asked import Wrong

_NUMBERS: Mapping[str, tuple[str, Callable[[str], int | float], str]] = {
    "temperature": ("Temperature", float, "0 leaves nothing to chance"),
    "max_tokens": ("Most tokens", int, "of the answer"),
    "top_p": ("Top p", float, "0 to 1"),
    "seed": ("Seed", int, "the same one, the same answer"),
}
_EFFORTS = {
    "": "as the model likes",
    "none": "none",
    "low": "low",
    "medium": "medium",
    "high": "high",
}
_OWN = frozenset({"model", "messages", "stream", "stream_options"})


class Parameters:
    """What was typed stays when the conversation turns to another model; what that model passes
    over is not sent."""

    def __init__(self) -> None:
        self._fields: dict[str, ui.input] = {}
        self._system = ui.textarea("System text").props("outlined autogrow").classes("hr-wide")
        for name, (title, _, _) in _NUMBERS.items():
            field = ui.input(title).props("outlined dense inputmode=decimal autocomplete=off")
            self._fields[name] = field.classes("hr-wide")
        self._effort = ui.select(dict(_EFFORTS), label="Thoughts", value="")
        self._effort.props("outlined dense").classes("hr-wide")
        self._more = ui.textarea("Further fields, as a JSON object")
        self._more.props("outlined autogrow spellcheck=false input-class=hr-mono")
        self._more.props["hint"] = 'as {"top_k": 20}'
        self._more.classes("hr-wide")

    def turn_to(self, model: Model) -> None:
        for name, field in self._fields.items():
            ignored = name in model.ignores
            field.props["hint"] = "no effect with this model" if ignored else _NUMBERS[name][2]
            field.set_enabled(not ignored)
            field.update()
        self._effort.set_visibility(model.thinks)

    @property
    def system(self) -> str:
        return str(self._system.value or "")

    def said(self) -> dict[str, Any]:
        """The fields that have a value. Raises Wrong."""
        heeded = {name: field for name, field in self._fields.items() if field.enabled}
        texts = {name: str(field.value or "") for name, field in heeded.items()}
        effort = str(self._effort.value or "") if self._effort.visible else ""
        return fields(texts, effort, str(self._more.value or ""))


def fields(texts: Mapping[str, str], effort: str, more: str) -> dict[str, Any]:
    """Fields of a request, of what was typed. `more`: a JSON object, or nothing. Raises Wrong."""
    found: dict[str, Any] = {}
    for name, (title, read, _) in _NUMBERS.items():
        if text := texts.get(name, "").strip():
            try:
                found[name] = read(text)
            except ValueError:
                what = "a whole number" if read is int else "a number"
                raise Wrong(f"{title}: {text!r} is not {what}.") from None
    if effort:
        found["reasoning_effort"] = effort
    return {**found, **further(more)}


def further(text: str) -> dict[str, Any]:
    """Raises Wrong."""
    if not text.strip():
        return {}
    try:
        said = json.loads(text)
    except ValueError as fault:
        raise Wrong(f"Further fields: this is no JSON: {fault}.") from None
    if not isinstance(said, dict):
        raise Wrong("Further fields: this is no JSON object.")
    if taken := sorted(_OWN & said.keys()):
        raise Wrong(f"Further fields: {taken[0]!r} is not one of them.")
    return said
