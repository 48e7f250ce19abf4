"""Schemas as clients write them, held by a real llama.cpp: in texts and in calls, at each API."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from jsonschema_rs import FancyRegexOptions
from openai import APIStatusError, AsyncOpenAI
from pydantic import BaseModel

from ingress.answer.schema_validator import compiled
from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.questions import chat, refused, said
from tests.acceptance.surface.servers import TOOLS_MODEL

pytestmark = pytest.mark.asyncio(loop_scope="package")

ASK: Any = [{"role": "user", "content": "Tell me something."}]
TEXT: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
SHORT: dict[str, Any] = {**TEXT, "maxLength": 9}

VALUES: dict[str, dict[str, Any]] = {
    "digits": {**TEXT, "pattern": r"^\d{3}$"},
    "words": {**TEXT, "pattern": r"^\w{2,5}\s\w{2,5}$"},
    "named groups": {**TEXT, "pattern": r"^(?<year>\d{4})-(?<month>\d\d)$"},
    "letters": {**TEXT, "pattern": r"^\p{Lu}\p{Ll}{2,4}$"},
    "not": {**TEXT, "pattern": "^[^a-z]{3}$"},
    "any letter": {**TEXT, "pattern": "^.{3}$"},
    "quotes": {**TEXT, "pattern": r'^"\\\n$'},
    "pair": {**TEXT, "pattern": r"^\ud83d\ude00{2}$"},
    "begins so": {**TEXT, "pattern": "^(yes|no)$|^maybe$"},
    "lengths beside a pattern": {**TEXT, "pattern": "^[a-z]+$", "minLength": 3, "maxLength": 4},
    "range": {**INTEGER, "minimum": 3, "maximum": 17},
    "below zero": {**INTEGER, "maximum": -5},
    "fraction as a bound": {**INTEGER, "minimum": 1.5, "exclusiveMaximum": 4},
    "multiples": {**INTEGER, "multipleOf": 5, "minimum": 1, "maximum": 99},
    "looks ahead": {**TEXT, "pattern": r"^(?=.*\d)(?=.*[a-z])[a-z\d]{4,8}$"},
    "not at first": {**TEXT, "pattern": r"^(?!0)(?!.*--)[\d-]{2,5}$"},
    "fractions": {"type": "number", "exclusiveMinimum": 0.5, "maximum": 1},
    "multiples of a fraction": {"type": "number", "multipleOf": 0.25, "minimum": 1, "maximum": 9},
    "contains": {
        "type": "array",
        "items": {**INTEGER, "minimum": 0, "maximum": 9},
        "contains": {"minimum": 7},
        "minContains": 2,
        "maxItems": 4,
    },
    "escaped": {"$ref": "#/$defs/a~1b%20c"},
    "anchor": {"$ref": "#here"},
    "alias": {"$ref": "#/$defs/alias"},
    "beside a reference": {"$ref": "#/$defs/number", "minimum": 2, "maximum": 4},
    "all of": {"allOf": [{"$ref": "#/$defs/number"}, {"minimum": 7}, {"maximum": 8}]},
    "tuple and more": {
        "type": "array",
        "prefixItems": [{"const": 1}],
        "items": {"const": "x"},
        "minItems": 3,
        "maxItems": 3,
    },
    "required alone": {"type": "object", "required": ["b"], "additionalProperties": SHORT},
    "beside a choice": {
        "type": "object",
        "properties": {"b": {"const": 1}, "c": {"const": 2}},
        "anyOf": [{"required": ["b", "c"]}],
    },
}
DEFINED = {
    "a/b c": {"enum": ["escaped"]},
    "anchored": {"$anchor": "here", "enum": ["anchored"]},
    "alias": {"$ref": "#/$defs/anchored"},
    "number": INTEGER,
}


def wrapped(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": value}, "required": ["a"], "$defs": DEFINED}


def validate(schema: dict[str, Any], value: Any) -> None:
    compiled(schema, FancyRegexOptions()).validate(value)


def as_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


async def ended(client: AsyncOpenAI, **fields: Any) -> Any:
    """The first answer that its limit does not cut: a random one may not find its end in time."""
    asked: Any = {"model": MODEL, "messages": ASK, "max_tokens": 120, "temperature": 1, **fields}
    for seed in range(9):
        answer = await client.chat.completions.with_raw_response.create(**asked, seed=seed)
        if answer.parse().choices[0].finish_reason != "length":
            return answer
    raise AssertionError("nine answers and none had an end")


@pytest.mark.parametrize("name", VALUES)
async def test_the_engine_is_held_to_it(client: AsyncOpenAI, name: str) -> None:
    """At once: a model this small would not get it right when told."""
    schema = wrapped(VALUES[name])
    answer = await ended(client, response_format=as_format(schema))
    validate(schema, json.loads(said(answer.parse())))
    assert "x-headrace-warning" not in answer.headers


@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
@pytest.mark.parametrize("name", ["digits", "range", "escaped", "anchor", "all of"])
async def test_so_are_calls(client: AsyncOpenAI, model: str, name: str) -> None:
    schema = {**wrapped(VALUES[name]), "additionalProperties": False}
    function = {"name": "f", "strict": True, "parameters": schema}
    tools: Any = [{"type": "function", "function": function}]
    answer = await chat(
        client, ASK, model=model, tools=tools, tool_choice="required", max_tokens=120
    )
    (call,) = answer.choices[0].message.tool_calls
    validate(schema, json.loads(call.function.arguments))


async def test_a_schema_that_refers_to_its_root(client: AsyncOpenAI) -> None:
    tree = {
        "type": "object",
        "properties": {"v": {"enum": [1]}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
        "required": ["v", "next"],
    }
    answer = await chat(client, ASK, response_format=as_format(tree), max_tokens=200, logit_bias={})
    if answer.choices[0].finish_reason == "stop":  # else it went on and on
        validate(tree, json.loads(said(answer)))


CRASHING = [
    {**TEXT, "pattern": "^()$"},
    {**TEXT, "pattern": "^a{3,2}$"},
    {**TEXT, "minLength": 5, "maxLength": 2},
    {"type": "array", "items": SHORT, "minItems": 3, "maxItems": 2},
    {**INTEGER, "minimum": 5, "maximum": 2},
]


@pytest.mark.parametrize("value", CRASHING)
async def test_what_nothing_fits_harms_nobody(client: AsyncOpenAI, value: dict[str, Any]) -> None:
    """Each of them made llama-server crash, hang, or answer 500."""
    wanted = as_format(wrapped(value))
    with suppress(APIStatusError):  # mostly: it may also be cut before it is wrong
        await chat(client, ASK, response_format=wanted, max_tokens=60)
    assert said(await chat(client))


async def test_what_the_grammar_cannot_say_is_asked_for_again(client: AsyncOpenAI) -> None:
    wanted = as_format(wrapped({"type": "number", "minimum": 10**15}))
    error = await refused(chat(client, ASK, response_format=wanted, max_tokens=60))
    assert (error.status_code, error.code) == (502, "invalid_structured_output")
    assert "twice" in error.message


NARROWER: list[dict[str, Any]] = [
    {"type": "number", "minimum": 0.5},
    {"type": "number", "exclusiveMaximum": -2.5},
    {"type": "number", "multipleOf": 0.5, "minimum": 100},
    {**INTEGER, "multipleOf": 7},
]


@pytest.mark.parametrize("value", NARROWER)
async def test_the_second_answer_fits_a_narrower_schema(
    client: AsyncOpenAI, value: dict[str, Any]
) -> None:
    """The first one may be of any number: a model that knows better needs no list of numbers."""
    schema = wrapped(value)
    answer = await ended(client, response_format=as_format(schema))
    validate(schema, json.loads(said(answer.parse())))


class Place(BaseModel):
    number: int
    known: bool


@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
async def test_a_message_is_parsed(claude: AsyncAnthropic, model: str) -> None:
    asked: Any = {"model": model, "max_tokens": 200, "messages": ASK}
    answer = await claude.messages.parse(**asked, output_format=Place)
    assert isinstance(answer.parsed_output, Place)
    assert answer.stop_reason == "end_turn"
    async with claude.messages.stream(**asked, output_format=Place) as stream:
        final = await stream.get_final_message()
    Place.model_validate_json(next(b.text for b in final.content if b.type == "text"))
    assert final.usage.output_tokens > 5


@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "second"}])
async def test_a_message_calls_the_tool_that_it_must(
    claude: AsyncAnthropic, model: str, choice: Any
) -> None:
    schema = wrapped(VALUES["digits"])
    tools: Any = [{"name": n, "strict": True, "input_schema": schema} for n in ("first", "second")]
    asked: Any = {"model": model, "max_tokens": 200, "messages": ASK, "tools": tools}
    answer: Any = await claude.messages.create(**asked, tool_choice=choice)
    (use,) = [block for block in answer.content if block.type == "tool_use"]
    assert use.name == choice.get("name", use.name)
    validate(schema, use.input)
    assert answer.stop_reason == "tool_use"
