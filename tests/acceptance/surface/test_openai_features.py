"""OpenAI's client library: schemas, tools, reasoning, and what is refused by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.questions import QUESTION, THOUGHT, Capital, chat, refused, said
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, THINKING_MODEL, TOOLS_MODEL

pytestmark = pytest.mark.asyncio(loop_scope="package")

WARNING = "x-headrace-warning"
LENIENT = {"x-headrace-lenient": "true"}


async def test_a_schema_holds(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Capital, max_tokens=90, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Capital)
    manager = client.chat.completions.stream(
        model=MODEL, messages=QUESTION, response_format=Capital, max_tokens=90, temperature=0
    )
    async with manager as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Capital)


async def test_json_mode(client: AsyncOpenAI) -> None:
    short = {"response_format": {"type": "json_object"}, "max_tokens": 200}
    ask = [{"role": "user", "content": 'Write the JSON {"a": 1} and nothing else.'}]
    answer = await chat(client, ask, **short, logit_bias={"}": 3})
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(json.loads(said(answer)), dict)


async def test_a_schema_that_is_none_is_a_400(client: AsyncOpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    error = await refused(chat(client, response_format=wanted))
    assert (error.status_code, error.param) == (400, "response_format.json_schema.schema")


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def example(city: str, names: list[str]) -> list[dict[str, Any]]:
    """One exchange in which each tool is called: a small model repeats what it has seen."""
    calls = [
        {
            "type": "function",
            "id": f"{name}-{city}",
            "function": {"name": name, "arguments": json.dumps({"city": city})},
        }
        for name in names
    ]
    question = {"role": "user", "content": f"{' and '.join(names)} of {city}?"}
    return [question, {"role": "assistant", "content": "", "tool_calls": calls}]


def tool_chat(names: list[str], model: str = TOOLS_MODEL) -> dict[str, Any]:
    before = [message for city in ("Rome", "Oslo") for message in example(city, names)]
    return {
        "model": model,
        "messages": [*before, example("Paris", names)[0]],
        "tools": [tool(name) for name in names],
        "max_tokens": 120,
        "parallel_tool_calls": len(names) > 1,
    }


@pytest.mark.parametrize("names", [["weather"], ["weather", "time"]])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
async def test_tools_are_called(
    client: AsyncOpenAI, names: list[str], stream: bool, model: str
) -> None:
    """With a template that knows no tools, too."""
    answer = await chat(client, **tool_chat(names, model), stream=stream)
    if stream:
        calls: dict[int, list[str]] = {}
        async for chunk in answer:
            for call in chunk.choices[0].delta.tool_calls or ():
                made = calls.setdefault(call.index, ["", ""])
                made[0] += call.function.name or ""
                made[1] += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason
        found = [calls[index] for index in sorted(calls)]
    else:
        finish = answer.choices[0].finish_reason
        made_calls = answer.choices[0].message.tool_calls
        found = [[call.function.name, call.function.arguments] for call in made_calls]
        assert len({call.id for call in made_calls}) == len(names)
    assert finish == "tool_calls"
    assert [name for name, _ in found] == names
    assert all(json.loads(arguments) == {"city": "Paris"} for _, arguments in found)


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called_one_by_one_if_that_is_asked_for(
    client: AsyncOpenAI, stream: bool
) -> None:
    """The model has seen two calls in each answer, and makes two where it may."""
    body = {**tool_chat(["weather", "time"]), "parallel_tool_calls": False}
    answer = await chat(client, **body, stream=stream)
    chunks = [chunk async for chunk in answer] if stream else [answer]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    said_ = [choice.delta if stream else choice.message for choice in choices]
    calls = [call for each in said_ for call in each.tool_calls or ()]
    assert [call.function.name for call in calls if call.function.name] == ["weather"]
    assert json.loads("".join(call.function.arguments for call in calls)) == {"city": "Paris"}
    assert choices[-1].finish_reason == "tool_calls"


async def test_a_tools_result_goes_back(client: AsyncOpenAI) -> None:
    body = tool_chat(["weather"])
    first = (await chat(client, **body)).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "Rain."}
    messages = [*body["messages"], first.model_dump(exclude_none=True), result]
    answer = await chat(client, messages=messages, model=TOOLS_MODEL, tools=body["tools"])
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


FOREIGN: dict[str, Any] = {
    "options": {"num_ctx": 8192},
    "guided_json": {"type": "object"},
    "format": "json",
    "max_output_tokens": 5,
    "stop_sequences": ["x"],
    "best_of": 2,
    "dimensions": 5,
    "system": "Be brief.",
    "repetition_penalty": 1.5,
}
"""Of other APIs and engines."""


def with_call(**changes: Any) -> list[dict[str, Any]]:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": ""}}
    said = {"role": "assistant", "content": None, "tool_calls": [{**call, **changes}]}
    return [*QUESTION, said, {"role": "tool", "tool_call_id": "c", "content": "Rain."}]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"type": 5}, "messages[1].tool_calls[0].type"),
        ({"id": 5}, "messages[1].tool_calls[0].id"),
        ({"function": {"arguments": "{}"}}, "messages[1].tool_calls[0].function.name"),
    ],
)
async def test_a_call_in_the_history_that_is_none_is_a_400(
    client: AsyncOpenAI, changes: dict[str, Any], param: str
) -> None:
    """llama-server answers 500."""
    error = await refused(chat(client, with_call(**changes), model=TOOLS_MODEL))
    assert (error.status_code, error.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        *(({"extra_body": {name: value}}, name) for name, value in FOREIGN.items()),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
async def test_what_would_do_nothing_is_refused_by_name(
    client: AsyncOpenAI, fields: dict[str, Any], param: str
) -> None:
    error = await refused(chat(client, **fields))
    assert (error.status_code, error.code, error.param) == (400, "unsupported_parameter", param)
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 2, **fields}
    raw = await client.chat.completions.with_raw_response.create(**body, extra_headers=LENIENT)
    assert raw.headers[WARNING].startswith(f"{param} has no effect: ")


async def test_what_has_no_effect_on_any_answer_passes(client: AsyncOpenAI) -> None:
    inert = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    inert |= {"verbosity": "medium", "reasoning_effort": "medium", "parallel_tool_calls": True}
    newer = {"safety_identifier": "s"}
    body = {"model": MODEL, "messages": QUESTION, "temperature": 0, "extra_body": newer, **inert}
    raw = await client.chat.completions.with_raw_response.create(**body)
    assert "Paris" in said(raw.parse())
    assert WARNING not in raw.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_a_field_that_nobody_is_known_to_have_passes_and_is_told_of(
    client: AsyncOpenAI, stream: bool
) -> None:
    """The engine may be newer than what is known of it; a slip of the pen is no silence."""
    odd = {"temprature": 0, "grammar": 'root ::= "yes"', "odd_field": {"x": [1]}}
    body: Any = {"model": MODEL, "messages": QUESTION, "extra_body": odd, "stream": stream}
    raw = await client.chat.completions.with_raw_response.create(**body)
    nobody = "is known neither to OpenAI's API nor to llama-server"
    told = f"'temprature' {nobody}; did you mean 'temperature'?; 'odd_field' {nobody}"
    assert raw.headers[WARNING] == told
    if stream:
        assert [chunk async for chunk in raw.parse()]
    else:
        assert said(raw.parse()) == "yes"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_null_or_nought_asks_for_nothing(client: AsyncOpenAI, stream: bool) -> None:
    told: Any = {"role": "user", "content": "Hi.", "name": None, "tool_calls": None}
    lame: Any = {"type": "function", "function": {"name": "f", "description": None}}
    nothing: Any = {"logprobs": False, "top_logprobs": 0, "max_tokens": 2, "stream": stream}
    answer = await chat(client, [told], model=TOOLS_MODEL, tools=[lame], **nothing)
    if stream:
        assert [chunk async for chunk in answer]
    else:
        assert answer.choices[0].message.content


async def test_the_engines_own_fields_work(client: AsyncOpenAI) -> None:
    own = {"grammar": 'root ::= "yes" | "no"', "cache_prompt": False}
    answer = await chat(client, extra_body=own)
    assert said(answer) in ("yes", "no")
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_comes_apart(client: AsyncOpenAI, stream: bool) -> None:
    answer = await chat(client, model=THINKING_MODEL, stream=stream, extra_body=THOUGHT)
    if stream:
        deltas = [chunk.choices[0].delta async for chunk in answer]
        text = "".join(delta.content or "" for delta in deltas)
        thought = "".join((d.model_extra or {}).get("reasoning_content") or "" for d in deltas)
    else:
        text, thought = said(answer), answer.choices[0].message.reasoning_content
    assert (text, thought.strip()) == ("Paris", "hm")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_clients_hints_are_obeyed_or_named(client: AsyncOpenAI, stream: bool) -> None:
    hints: Any = {"reasoning_effort": "minimal", "verbosity": "low", "store": True}
    hints |= {
        "stream": stream,
        "prediction": {"type": "content", "content": "x"},
        "service_tier": "priority",
    }
    body = {"model": THINKING_MODEL, "messages": QUESTION, "max_tokens": 4, **hints}
    raw = await client.chat.completions.with_raw_response.create(**body)
    for name in ("verbosity", "store", "prediction", "service_tier"):
        assert f"{name} has no effect" in raw.headers[WARNING]
    assert "reasoning_effort" not in raw.headers[WARNING]
    answer = raw.parse()
    chunks = [chunk async for chunk in answer] if stream else [answer]
    parts = [choice.delta if stream else choice.message for c in chunks for choice in c.choices]
    assert not any((part.model_extra or {}).get("reasoning_content") for part in parts)


async def test_no_reasoning_where_none_is_wanted(client: AsyncOpenAI) -> None:
    answer = await chat(client, model=THINKING_MODEL, reasoning_effort="none", max_tokens=4)
    assert "reasoning_content" not in answer.choices[0].message.model_extra


COUNT = "/chat/completions/input_tokens"


@pytest.mark.parametrize("tools", [[], [tool("weather")]])
async def test_a_chats_tokens_are_counted_as_it_is_run(client: AsyncOpenAI, tools: Any) -> None:
    body: Any = {"model": MODEL, "messages": QUESTION, **({"tools": tools} if tools else {})}
    told = await client.post(COUNT, body=body, cast_to=dict[str, Any])
    answer = await client.chat.completions.create(**body, max_tokens=1)
    assert told == {"object": "response.input_tokens", "input_tokens": answer.usage.prompt_tokens}


async def test_a_model_without_such_a_count_has_no_such_endpoint(client: AsyncOpenAI) -> None:
    body: Any = {"model": EMBEDDINGS_MODEL, "messages": QUESTION}
    error = await refused(client.post(COUNT, body=body, cast_to=dict[str, Any]))
    assert (error.status_code, error.code, error.param) == (400, "unsupported_endpoint", "model")
