"""Tool calls. Every probe raises Unmet or Partial where the call is not as it was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from deploy.compat.rows import row
from deploy.compat.target import Partial, Refused, Target, Unmet, joined, need, pieces, quoted, said
from ingress.answer.schema_child import verdict
from schemas.api import endpoints

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
_ENDS = ("tool_calls", "stop")
_ONE = "What is the weather in {}?"
_TWO = "What is the weather in {}, and what is it in {}? Look up both at once."
_WEATHERS = {"Oslo": "4 °C, snow", "Lima": "19 °C, mist", "Cairo": "31 °C, sun", "Perth": "22 °C"}


@row("tool / function calling", "the call comes, its arguments fit, its result is taken")
async def tools(target: Target) -> str:
    asked = _asked(_ONE, ("Oslo", "Lima"), "Paris")
    found, how = await _made_to(target.chat, asked)
    choice = found["choices"][0]
    call = _calls(choice, how)[0]
    need(choice["finish_reason"] in _ENDS, f"ended {choice['finish_reason']!r}")
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
    events, how = await _made_to(target.chat_stream, _asked(_ONE, ("Oslo", "Lima"), "Paris"))
    call = _calls(joined(events), how)[0]
    ends = [end for choice in pieces(events) if (end := choice.get("finish_reason"))]
    need(len(ends) == 1 and ends[0] in _ENDS, f"finish_reason came as {ends}")
    return f"the pieces join to get_weather({call['function']['arguments']})"


@row("tools, parallel calls", "two calls in one answer")
async def tools_parallel(target: Target) -> str:
    asked = _asked(_TWO, ("Oslo", "Lima", "Cairo", "Perth"), "Paris")
    # Engines may allow only one forced call, so the model is first left to choose.
    found, how = await target.chat(asked, tools=[_WEATHER], max_tokens=_ROOM), ""
    if not found["choices"][0]["message"].get("tool_calls"):
        found, how = await _made_to(target.chat, asked)
    calls = _calls(found["choices"][0], how)
    if len(calls) < 2:
        raise Partial("one call came where two were asked for: so the model chose")
    need(len({call["id"] for call in calls}) == len(calls), "two calls have one id")
    return f"{len(calls)} calls in one answer, each with an id of its own"


@row(
    f"POST {endpoints.MESSAGES.path}: a call that is demanded",
    "it comes, and fits, whole and streamed",
)
async def messages_call(target: Target) -> str:
    about = {"name": "get_weather", "description": "The weather in a city."}
    body = {
        "messages": [{"role": "user", "content": _ONE.format("Paris")}],
        "tools": [{**about, "input_schema": _PARAMETERS}],
        "tool_choice": {"type": "any"},
        "max_tokens": _ROOM,
        "temperature": 0,
    }
    found = await target.ask(endpoints.MESSAGES.path, body)
    given = [block["input"] for block in found["content"] if block["type"] == "tool_use"]
    need(given, "no call came")
    need(found["stop_reason"] == "tool_use", f"stopped: {found['stop_reason']!r}")
    events = await target.stream(endpoints.MESSAGES.path, body)
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    joint = "".join(delta.get("partial_json", "") for delta in deltas)
    for text in (orjson.dumps(given[0]).decode(), joint):
        why = verdict(_PARAMETERS, text)
        need(not why, f"the input {text} does not fit: {why}")
    return f"get_weather({joint}), whole and streamed"


def _asked(question: str, before: Sequence[str], city: str) -> list[dict[str, Any]]:
    """A talk with earlier calls of the tool, as small models repeat what they did before."""
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


async def _made_to(chat: Callable[..., Awaitable[Any]], asked: list[Any]) -> tuple[Any, str]:
    """(the answer to a request that demands a call, ""). If that is refused: (the answer to a
    request that lets the model choose, the reason of the refusal)."""
    more = {"tools": [_WEATHER], "max_tokens": _ROOM}
    try:
        return await chat(asked, **more, tool_choice="required"), ""
    except Refused as refused:
        if refused.error.get("param") != "tool_choice":
            raise
        return await chat(asked, **more), refused.reason


def _calls(choice: Mapping[str, Any], how: str) -> list[Any]:
    """The calls of a choice. Raises Unmet if there are none, or if they do not fit. `how`: why the
    engine refused to force a call, "" if it did not."""
    calls: list[Any] = choice["message"].get("tool_calls") or []
    if not calls:
        why = f"; and it cannot be made to call: {how}" if how else ""
        raise Unmet(f"the model answered {quoted(said(choice))} instead of calling the tool{why}")
    for call in calls:
        function: Mapping[str, Any] = call["function"]
        need(call.get("id"), "a call has no id")
        need(function["name"] == "get_weather", f"it called {function['name']!r}")
        why = verdict(_PARAMETERS, function["arguments"])
        need(not why, f"the arguments {function['arguments']} do not fit: {why}")
    return calls
