"""Tool calls. Every probe raises Unmet or Partial where the call is not as it was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from deploy.compat.rows import row
from deploy.compat.target import (
    Partial,
    Refused,
    Target,
    Unmet,
    fault_of,
    need,
    pieces,
    quoted,
    said,
)

_PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": _PARAMETERS,
    },
}
_ROOM = 128
"""Tokens for the calls."""
_ONE = "What is the weather in {}?"
_TWO = "What is the weather in {}, and what is it in {}? Look up both at once."
_WEATHERS = {"Oslo": "4 °C, snow", "Lima": "19 °C, mist", "Cairo": "31 °C, sun", "Perth": "22 °C"}


@row("tool / function calling", "the call comes, its arguments fit, its result is taken")
async def tools(target: Target) -> str:
    asked = _asked(_ONE, ("Oslo", "Lima"), "Paris")
    choice, how = await _called(target, asked)
    call = _checked(choice["message"]["tool_calls"])[0]
    need(choice["finish_reason"] in ("tool_calls", "stop"), f"ended {choice['finish_reason']!r}")
    told = {"role": "tool", "tool_call_id": call["id"], "content": "18 °C, rain"}
    try:
        await target.chat([*asked, choice["message"], told], tools=[_WEATHER])
    except Refused as refused:
        raise Partial(f"the call came, but its result was refused: {refused.reason}") from None
    if how:
        raise Partial(f"the call came, but only as the model chose to make it: {how}")
    return f"get_weather({call['function']['arguments']}), and its result was taken"


@row("tools, streamed", "the pieces join to a fitting call")
async def tools_streamed(target: Target) -> str:
    asked = _asked(_ONE, ("Oslo", "Lima"), "Paris")
    events, how = await _made_to(target.chat_stream, asked)
    choices = pieces(events)
    calls: dict[int, dict[str, Any]] = {}
    for choice in choices:
        for piece in choice["delta"].get("tool_calls") or ():
            _add(calls.setdefault(piece["index"], {}), piece)
    if not calls:
        raise Unmet(_prose("".join(said(choice) for choice in choices), how))
    _checked(list(calls.values()))
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    need(ends in (["tool_calls"], ["stop"]), f"finish_reason came as {ends}")
    return f"the pieces join to get_weather({calls[min(calls)]['function']['arguments']})"


@row("tools, parallel calls", "two calls in one answer")
async def tools_parallel(target: Target) -> str:
    asked = _asked(_TWO, ("Oslo", "Lima", "Cairo", "Perth"), "Paris")
    # A call that is forced may be the only one: first the model is left to choose.
    free = await target.chat(asked, tools=[_WEATHER], max_tokens=_ROOM)
    found = free["choices"][0]["message"].get("tool_calls")
    if not found:
        choice, _ = await _called(target, asked)
        found = choice["message"]["tool_calls"]
    calls = _checked(found)
    if len(calls) < 2:
        raise Partial("one call came where two were asked for: so the model chose")
    need(len({call["id"] for call in calls}) == len(calls), "two calls have one id")
    return f"{len(calls)} calls in one answer, each with an id of its own"


def _asked(question: str, before: Sequence[str], city: str) -> list[dict[str, Any]]:
    """A talk in which the tool was called already: small models do as was done before."""
    many = question.count("{}")
    talk: list[dict[str, Any]] = []
    for start in range(0, len(before), many):
        cities = before[start : start + many]
        calls = [_past(each) for each in cities]
        talk.append({"role": "user", "content": question.format(*cities)})
        talk.append({"role": "assistant", "content": "", "tool_calls": calls})
        talk += [
            {"role": "tool", "tool_call_id": f"call_{each}", "content": _WEATHERS[each]}
            for each in cities
        ]
    return [*talk, {"role": "user", "content": question.format(city, "Rome")}]


def _past(city: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": orjson.dumps({"city": city}).decode()}
    return {"id": f"call_{city}", "type": "function", "function": function}


async def _called(target: Target, asked: list[Any]) -> tuple[dict[str, Any], str]:
    """The choice that calls, and why the model could not be made to call ("" if it could)."""
    found, how = await _made_to(target.chat, asked)
    choice: dict[str, Any] = found["choices"][0]
    if not choice["message"].get("tool_calls"):
        raise Unmet(_prose(said(choice), how))
    return choice, how


async def _made_to(chat: Callable[..., Awaitable[Any]], asked: list[Any]) -> tuple[Any, str]:
    """With tool_choice if it is honoured; else the reason, and the model is left to choose."""
    more = {"tools": [_WEATHER], "max_tokens": _ROOM}
    try:
        return await chat(asked, **more, tool_choice="required"), ""
    except Refused as refused:
        if refused.error.get("param") != "tool_choice":
            raise
        return await chat(asked, **more), refused.reason


def _prose(text: str, how: str) -> str:
    why = f"; and it cannot be made to call: {how}" if how else ""
    return f"the model answered {quoted(text)} instead of calling the tool{why}"


def _checked(calls: list[Any]) -> list[Any]:
    for call in calls:
        function: Mapping[str, Any] = call["function"]
        need(call.get("id"), "a call has no id")
        need(function["name"] == "get_weather", f"it called {function['name']!r}")
        why = fault_of(_PARAMETERS, function["arguments"])
        need(not why, f"the arguments {function['arguments']} do not fit: {why}")
    return calls


def _add(call: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """The name and the id come once, the arguments in pieces."""
    function = call.setdefault("function", {"name": "", "arguments": ""})
    call["id"] = call.get("id") or piece.get("id")
    given = piece.get("function") or {}
    function["name"] = function["name"] or given.get("name") or ""
    function["arguments"] += given.get("arguments") or ""
