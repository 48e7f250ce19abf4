"""Chats whose answer must have a format: how a request says so, which parts of an answer are
checked, and what the model is told if one does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.api import json_format
from schemas.api.base import Document, Event, Request
from schemas.api.json_format import Finished, Formats, JsonFormat

_UNCUT = ("stop", "tool_calls")  # finish reasons; all others mean that the answer was cut


def formats_of(request: Mapping[str, Any]) -> Formats | None:
    tools = (
        (f"tools[{place}].function", tool["function"])
        for place, tool in enumerate(request.get("tools") or ())
        if tool.get("type") == "function"
    )
    return json_format.formats(_of_text(request), json_format.of_tools(tools, "parameters"))


def _of_text(request: Mapping[str, Any]) -> JsonFormat | None:
    asked = request.get("response_format")
    if not asked or asked["type"] not in json_format.TYPES:
        return None
    if asked["type"] == "json_object":  # with a schema beside it: llama-server's own form
        return json_format.read(asked.get("schema"), True, "response_format.schema")
    inner = asked["json_schema"]
    where = "response_format.json_schema.schema"
    return json_format.read(inner["schema"], inner.get("strict"), where)


def finished(document: Document) -> Iterator[Finished]:
    for choice in document.get("choices") or ():
        message, reason = choice.get("message") or {}, choice.get("finish_reason")
        calls = message.get("tool_calls") or ()
        if reason in _UNCUT:
            for call in calls:
                function = call.get("function") or {}
                yield Finished(function.get("arguments") or "{}", function.get("name") or "")
        if reason == "stop" and not calls and not message.get("refusal"):
            yield Finished(message.get("content") or "")


def objected(request: Request, document: Document, why: str) -> Request:
    """Shows the model its answer only if there is one choice: of several, any may be at fault."""
    choices = document.get("choices") or []
    said = (choices[0].get("message") or {}) if len(choices) == 1 else {}
    messages = [*request["messages"]]
    calls = [_shown(call) for call in said.get("tool_calls") or ()]
    content = json_format.shown(said.get("content") or "")
    if calls:
        messages.append({"role": "assistant", "content": content or None, "tool_calls": calls})
        told = json_format.call_objection(why)
        messages += [{"role": "tool", "tool_call_id": c["id"], "content": told} for c in calls]
    else:
        messages += [{"role": "assistant", "content": content}] if content else []
        messages.append({"role": "user", "content": json_format.objection(why)})
    return {**request, "messages": messages}


def _shown(call: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out arguments that are no JSON object, because chat templates read them."""
    function = call.get("function") or {}
    arguments = function.get("arguments") or ""
    try:
        is_object = isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        is_object = False
    arguments = arguments if is_object and len(arguments) <= json_format.SHOWN else "{}"
    told = {"name": function.get("name") or "", "arguments": arguments}
    return {"id": call.get("id") or "", "type": "function", "function": told}


class Calls:
    """The calls of one choice of a stream, put together. A new id begins a new call, because some
    engines give all calls the same index. `has_room`: whether so much more may be kept."""

    def __init__(self, has_room: Callable[[str], bool]) -> None:
        self.whole: list[dict[str, Any]] = []
        """As in a document, in their order."""
        self._has_room = has_room
        self._now: dict[Any, dict[str, Any]] = {}
        """The call that each `index` means."""

    def add(self, call: dict[str, Any]) -> None:
        index, known, function = call.get("index"), call.get("id"), call.get("function") or {}
        whole = self._now.get(index)
        if whole is None or known not in (None, "", whole["id"]):
            whole = self._now[index] = {"id": known, "function": {"name": "", "arguments": ""}}
            self.whole.append(whole)
        found = whole["function"]
        found["name"] = found["name"] or function.get("name") or ""
        if self._has_room(more := function.get("arguments") or ""):
            found["arguments"] += more


@dataclass(slots=True)
class _Choice:
    """One choice of a stream, as far as it has come."""

    calls: Calls
    text: list[str] = field(default_factory=list)
    refusal: str = ""

    def message(self) -> dict[str, Any]:
        text, calls = "".join(self.text), self.calls.whole
        return {"content": text, "refusal": self.refusal, "tool_calls": calls}


class FinishedParts:
    """See `schemas.api.base.FinishedParts`. `limit`: characters kept for all choices together."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._choices: dict[int, _Choice] = {}

    def add(self, event: Event) -> Iterator[Finished]:
        for part in event.get("choices") or ():
            index = part.get("index") or 0
            if index not in self._choices:
                self._choices[index] = _Choice(Calls(self._has_room))
            choice = self._choices[index]
            self._keep(choice, part.get("delta") or {})
            if reason := part.get("finish_reason"):
                whole = {"choices": [{"finish_reason": reason, "message": choice.message()}]}
                for each in finished(whole):
                    # Once the limit is passed, texts have holes.
                    yield each if self._left >= 0 else each._replace(text=None)

    def _keep(self, choice: _Choice, delta: dict[str, Any]) -> None:
        if self._has_room(text := delta.get("content") or ""):
            choice.text.append(text)
        choice.refusal = choice.refusal or delta.get("refusal") or ""
        for call in delta.get("tool_calls") or ():
            choice.calls.add(call)

    def _has_room(self, text: str) -> bool:
        self._left -= len(text)
        return self._left >= 0
