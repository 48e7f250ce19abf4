"""The narrower schema of a second request: all that fits it fits the schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import is_valid

from schemas.api.chat.formats import formats_of
from schemas.api.narrow import narrow, narrowed

NUMBER: dict[str, Any] = {"type": "number"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({**NUMBER, "minimum": 0.5, "maximum": 0.7}, [0.5, 0.6, 0.7]),
        ({**NUMBER, "exclusiveMinimum": 0.5, "maximum": 0.7}, [0.6, 0.7]),
        ({**NUMBER, "minimum": 0.5}, [0.5, 0.6, 10, 10.5, 11, 10**6]),
        ({**NUMBER, "maximum": -0.5}, [-0.5, -3, -(10**6)]),
        ({**NUMBER, "minimum": -90, "maximum": 90}, [-90, 0, 90]),
        ({**NUMBER, "multipleOf": 0.25}, [0, 0.25, 25]),
        ({**NUMBER, "multipleOf": 0.25, "minimum": 3}, [3, 3.25]),
        ({"type": "integer", "multipleOf": 7}, [0, 7, 700]),
        ({"type": ["number", "null"], "minimum": 0.5, "maximum": 0.7}, [0.5, 0.7, None]),
        ({"minimum": 0.5, "maximum": 0.7}, [0.5, 0.7]),
    ],
)
def test_numbers_are_named_or_whole(schema: dict[str, Any], said: list[Any]) -> None:
    found = narrow(schema)
    assert all(is_valid(found, each) for each in said)
    assert all(is_valid(way, each) for way in found["anyOf"] for each in way.get("enum", ()))
    assert not is_valid(found, 0.123456789)
    for way in found["anyOf"]:
        for each in way.get("enum", ()):
            assert is_valid(schema, each)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3},
        {"type": "string", "minLength": 2},
        {**NUMBER, "minimum": 10**15},
        {"minimum": 0.5, "anyOf": [NUMBER]},
        {"not": {**NUMBER, "minimum": 0.5}},
        {"properties": {"minimum": True}},
        True,
    ],
)
def test_what_grammars_have_is_as_it_was(schema: Any) -> None:
    assert narrow(schema) == schema


def test_it_is_narrower_wherever_a_schema_stands() -> None:
    number = {**NUMBER, "minimum": 0.5, "maximum": 0.7}
    found = narrow({"properties": {"a": number}, "items": [number], "$defs": {"b": number}})
    assert found.keys() == {"properties", "items", "$defs"}
    for each in (found["properties"]["a"], found["items"][0], found["$defs"]["b"]):
        assert [is_valid(each, number) for number in (0.6, 0.8)] == [True, False]
    assert narrow({"type": "array", "uniqueItems": True})["maxItems"] == 1
    assert narrow({"type": "array", "uniqueItems": True, "minItems": 2})["maxItems"] == 2


def test_only_the_schemas_that_are_checked_are_changed() -> None:
    number = {"type": "object", "properties": {"a": {**NUMBER, "minimum": 0.5}}}
    loose = {"type": "function", "function": {"name": "f", "parameters": number}}
    strict = {"type": "function", "function": {"name": "g", "parameters": number, "strict": True}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": number}}
    request: dict[str, Any] = {"messages": [], "tools": [loose, strict], "response_format": wanted}
    formats = formats_of(request)
    assert formats is not None
    found = narrowed(request, formats)
    assert found["tools"][0] == loose
    assert found["tools"][1]["function"]["parameters"] == narrow(number) != number
    assert found["response_format"]["json_schema"] == {"name": "x", "schema": narrow(number)}
    assert request["tools"][1] == strict, "the request is as it was"


BOUND = st.floats(-50, 50) | st.integers(-50, 50)
OLD = "http://json-schema.org/draft-04/schema#"
WORDS = {
    "type": st.sampled_from(["number", "integer", ["number", "null"]]),
    "minimum": BOUND,
    "maximum": BOUND,
    "multipleOf": st.sampled_from([0.01, 0.25, 1, 3, 2.5]),
}
NEW = {"exclusiveMinimum": BOUND, "exclusiveMaximum": BOUND}


def fitting(schema: dict[str, Any]) -> bool:
    found = narrow(schema).get("anyOf", ())
    return all(is_valid(schema, each) for way in found for each in way.get("enum", ()))


@given(st.fixed_dictionaries({}, optional={**WORDS, **NEW}))
def test_every_number_that_it_names_fits(schema: dict[str, Any]) -> None:
    assert fitting(schema)


@given(st.fixed_dictionaries({}, optional=WORDS), BOUND)
def test_so_it_does_with_exclusive_bounds_of_draft_4(schema: dict[str, Any], bound: float) -> None:
    assert fitting({**schema, "$schema": OLD, "minimum": bound, "exclusiveMinimum": True})
