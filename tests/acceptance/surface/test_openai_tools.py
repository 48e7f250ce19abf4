"""OpenAI's client library: tools where the chat template knows none, or does not force calls."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from openai import AsyncOpenAI

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.questions import chat, refused, said
from tests.acceptance.surface.servers import TOOLS_MODEL

pytestmark = pytest.mark.asyncio(loop_scope="package")

each_model = pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
both = pytest.mark.parametrize("stream", [False, True])
ASK: Any = {"role": "user", "content": "What is the weather in Paris in degrees celsius?"}


class Place(pydantic.BaseModel):
    city: str


class Forecast(pydantic.BaseModel):
    """The weather to come at a place."""

    place: Place
    unit: str = pydantic.Field(pattern="^(celsius|kelvin)$")
    days: int = pydantic.Field(ge=1, le=9)


def tool(name: str, shape: type[pydantic.BaseModel]) -> dict[str, Any]:
    about = {"name": name, "description": f"The {name} of a place."}
    return {"type": "function", "function": {**about, "parameters": shape.model_json_schema()}}


TOOLS: Any = [tool("forecast", Forecast), tool("time", Place)]
NAMED: Any = {"type": "function", "function": {"name": "forecast"}}
SHAPES: dict[str, type[pydantic.BaseModel]] = {"forecast": Forecast, "time": Place}


async def whole(answer: Any) -> tuple[Any, Any]:
    """The first choice, and the usage, of a document or of a stream put together."""
    if not hasattr(answer, "__aiter__"):
        return answer.choices[0].model_dump(), answer.usage
    calls: dict[int, Any] = {}
    made: dict[str, Any] = {"message": {"content": "", "tool_calls": calls}, "finish_reason": None}
    usage = None
    async for event in answer:
        usage = event.usage or usage
        for choice in event.choices:
            made["message"]["content"] += choice.delta.content or ""
            made["finish_reason"] = choice.finish_reason or made["finish_reason"]
            for call in choice.delta.tool_calls or ():
                own = {"id": call.id, "function": {"name": call.function.name, "arguments": ""}}
                found = calls.setdefault(call.index, own)
                found["function"]["arguments"] += call.function.arguments
    made["message"]["tool_calls"] = list(calls.values())
    made["message"]["content"] = made["message"]["content"] or None
    return made, usage


async def called(client: AsyncOpenAI, model: str, stream: bool, **fields: Any) -> Any:
    more = {"stream_options": {"include_usage": True}} if stream else {}
    body = {"model": model, "messages": [ASK], "tools": TOOLS, "max_tokens": 150, "stream": stream}
    return await whole(await chat(client, **{**body, **more, **fields}))


@each_model
@both
@pytest.mark.parametrize(("choice", "end"), [("required", "tool_calls"), (NAMED, "stop")])
async def test_a_call_that_must_come_comes_and_fits(
    client: AsyncOpenAI, model: str, stream: bool, choice: Any, end: str
) -> None:
    made, usage = await called(client, model, stream, tool_choice=choice)
    assert (made["finish_reason"], made["message"]["content"]) == (end, None)
    (call,) = made["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    function = call["function"]
    assert function["name"] == "forecast" or choice == "required"
    assert SHAPES[function["name"]].model_validate_json(function["arguments"])
    assert usage.completion_tokens > 5
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@each_model
@both
async def test_its_result_is_answered(client: AsyncOpenAI, model: str, stream: bool) -> None:
    made, _ = await called(client, model, False, tool_choice=NAMED)
    message = {name: made["message"][name] for name in ("role", "content", "tool_calls")}
    result = {
        "role": "tool",
        "tool_call_id": message["tool_calls"][0]["id"],
        "content": "Rain, 7 degrees.",
    }
    for choice in ("auto", "none"):
        more = {"messages": [ASK, message, result], "tool_choice": choice, "max_tokens": 24}
        answer, _ = await called(client, model, stream, **more)
        assert answer["message"]["content"] or answer["message"]["tool_calls"]
    assert not answer["message"]["tool_calls"]


@each_model
@both
async def test_one_that_the_limit_cuts_says_so(
    client: AsyncOpenAI, model: str, stream: bool
) -> None:
    made, usage = await called(client, model, stream, tool_choice=NAMED, max_tokens=14)
    assert made["finish_reason"] == "length"
    assert usage.completion_tokens == 14
    (call,) = made["message"]["tool_calls"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(call["function"]["arguments"])


@each_model
async def test_each_choice_has_a_call_of_its_own(client: AsyncOpenAI, model: str) -> None:
    body: Any = {"model": model, "messages": [ASK], "tools": TOOLS, "max_tokens": 150}
    answer = await chat(client, **body, tool_choice="required", n=2, logprobs=True)
    found = [call for choice in answer.choices for call in choice.message.tool_calls]
    assert len({call.id for call in found}) == 2
    for call in found:
        assert SHAPES[call.function.name].model_validate_json(call.function.arguments)
    assert [choice.logprobs for choice in answer.choices] == [None, None]


@both
async def test_the_library_reads_the_calls(client: AsyncOpenAI, stream: bool) -> None:
    from openai import pydantic_function_tool

    asked: Any = {
        "model": MODEL,
        "messages": [ASK],
        "tools": [pydantic_function_tool(Forecast)],
        "tool_choice": {"type": "function", "function": {"name": "Forecast"}},
        "temperature": 0,
        "max_tokens": 150,
    }
    if stream:
        async with client.chat.completions.stream(**asked) as events:
            answer: Any = await events.get_final_completion()
    else:
        answer = await client.chat.completions.parse(**asked)
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Forecast)


async def test_text_passes_as_it_comes(client: AsyncOpenAI) -> None:
    more: Any = {"messages": [{"role": "user", "content": "Count to ten."}], "tools": TOOLS}
    answer = await chat(client, **more, stream=True, max_tokens=12)
    pieces = [c.delta.content async for event in answer for c in event.choices if c.delta.content]
    assert len(pieces) > 5


@each_model
@both
async def test_a_schema_holds_for_what_is_no_call(
    client: AsyncOpenAI, model: str, stream: bool
) -> None:
    shape = {"name": "place", "schema": Place.model_json_schema()}
    wanted = {"type": "json_schema", "json_schema": shape}
    made, _ = await called(client, model, stream, response_format=wanted)
    if calls := made["message"]["tool_calls"]:
        function = calls[0]["function"]
        assert SHAPES[function["name"]].model_validate_json(function["arguments"])
    else:
        assert Place.model_validate_json(made["message"]["content"])


async def test_a_grammar_cannot_hold_for_a_call(client: AsyncOpenAI) -> None:
    own: Any = {
        "tools": TOOLS,
        "tool_choice": "required",
        "extra_body": {"grammar": 'root ::= "a"'},
    }
    error = await refused(chat(client, **own))
    assert (error.status_code, error.param) == (400, "grammar")


async def test_the_card_says_so(client: AsyncOpenAI) -> None:
    for model in (MODEL, TOOLS_MODEL):
        known: Any = (await client.models.retrieve(model)).model_extra
        assert "tools" in known["headrace"]["features"]
        assert said(await chat(client, model=model, tools=[])) is not None
