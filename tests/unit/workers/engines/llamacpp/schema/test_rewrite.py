"""Schemas as the grammar takes them, and where they lie in requests."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import is_valid, meta

from workers.engines.llamacpp.schema.request import prepare_schemas
from workers.engines.llamacpp.schema.rewrite import MOST_PARTS, rewrite

Schema = dict[str, Any]
INTEGER: Schema = {"type": "integer"}
TEXT: Schema = {"type": "string"}

INNER: Schema = {"$id": "http://x/z", "$defs": {"a": TEXT}}
AGAIN: Schema = {"$ref": "#/$defs/n"}
NODE: Schema = {"$dynamicAnchor": "n", "type": "object", "properties": {"a": AGAIN}}


def tuple_of(*names: str) -> Schema:
    return {"type": "array", "prefixItems": [{"$ref": f"#/$defs/{name}"} for name in names]}


SAID: dict[str, tuple[Schema, Schema]] = {
    "as it is": ({**INTEGER, "minimum": 1}, {**INTEGER, "minimum": 1}),
    "pattern": ({**TEXT, "pattern": r"^\d$"}, {**TEXT, "pattern": "^([0-9])$"}),
    "pattern that cannot be said": (
        {**TEXT, "pattern": "(?=a)b", "minLength": 2},
        {**TEXT, "minLength": 2},
    ),
    "pattern of nothing": ({**TEXT, "pattern": "^$"}, {**TEXT, "maxLength": 0}),
    "nothing allowed": (
        {"type": "object", "properties": {"a": False}},
        {"type": "object", "properties": {}},
    ),
    "range of draft 4": (
        {**INTEGER, "minimum": 3, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": True},
        {**INTEGER, "minimum": 4, "maximum": 8},
    ),
    "range": (
        {**INTEGER, "minimum": 0.5, "exclusiveMaximum": 3},
        {**INTEGER, "minimum": 1, "maximum": 2},
    ),
    "two lower bounds": (
        {**INTEGER, "minimum": 1, "exclusiveMinimum": 5},
        {**INTEGER, "minimum": 6},
    ),
    "only below zero": (
        {**INTEGER, "maximum": -5},
        {**INTEGER, "minimum": 1 - 10**15, "maximum": -5},
    ),
    "nothing fits": ({**INTEGER, "minimum": 5, "maximum": 2}, INTEGER),
    "multiples": (
        {**INTEGER, "multipleOf": 5, "minimum": 1, "maximum": 12},
        {"multipleOf": 5, "enum": [5, 10]},
    ),
    "whole multiples": ({"type": "number", "multipleOf": 2}, {**INTEGER, "multipleOf": 2}),
    "no type": ({"minimum": 0.5}, {"type": "number", "minimum": 0.5}),
    "lengths that contradict": ({**TEXT, "minLength": 5, "maxLength": 2}, {**TEXT, "minLength": 5}),
    "counts that contradict": (
        {"type": "array", "items": TEXT, "minItems": 5, "maxItems": 2},
        {"type": "array", "items": TEXT, "minItems": 5},
    ),
    "counts as floats": ({**TEXT, "maxLength": 9.0}, {**TEXT, "maxLength": 9}),
    "too many": ({**TEXT, "minLength": 9999}, {**TEXT, "minLength": 2000}),
    "no items": ({"type": "array", "items": False}, {"type": "array", "items": {}, "maxItems": 0}),
    "tuple and more": (
        {"type": "array", "prefixItems": [INTEGER], "items": TEXT, "minItems": 2},
        {"type": "array", "prefixItems": [INTEGER, TEXT], "minItems": 2},
    ),
    "older tuple": (
        {"type": "array", "items": [INTEGER, TEXT], "maxItems": 1},
        {"type": "array", "prefixItems": [INTEGER], "maxItems": 1},
    ),
    "anything": (
        {"properties": {"a": True, "b": False}},
        {"type": "object", "properties": {"a": {}}},
    ),
    "required alone": (
        {"type": "object", "required": ["a"], "additionalProperties": TEXT},
        {
            "type": "object",
            "required": ["a"],
            "properties": {"a": TEXT},
            "additionalProperties": TEXT,
        },
    ),
    "all of": (
        {"allOf": [{**INTEGER, "minimum": 1}, {"type": "number", "maximum": 3}]},
        {**INTEGER, "minimum": 1, "maximum": 3},
    ),
    "all of objects": (
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"minimum": 1}}, "required": ["a"]},
                {"properties": {"b": TEXT, "a": INTEGER}, "required": ["b"]},
            ]
        },
        {
            "type": "object",
            "properties": {"a": {**INTEGER, "minimum": 1}, "b": TEXT},
            "required": ["a", "b"],
        },
    ),
    "beside a choice": (
        {"type": "object", "properties": {"a": TEXT}, "anyOf": [{"required": ["a"]}, False]},
        {"anyOf": [{"type": "object", "properties": {"a": TEXT}, "required": ["a"]}]},
    ),
    "beside a reference": (
        {"$ref": "#/$defs/x", "minimum": 3, "$defs": {"x": INTEGER}},
        {**INTEGER, "minimum": 3},
    ),
    "root": (
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/root"}},
            "$defs": {"root": {"type": "object", "properties": {"a": {"$ref": "#/$defs/root"}}}},
        },
    ),
    "escapes": (
        {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": INTEGER}},
        {"$ref": "#/$defs/a1b20c", "$defs": {"a1b20c": INTEGER}},
    ),
    "anchor": (
        {"$ref": "#here", "$defs": {"x": {"$anchor": "here", **INTEGER}}},
        {"$ref": "#/$defs/here", "$defs": {"here": INTEGER}},
    ),
    "alias": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": TEXT}},
        {"$ref": "#/$defs/b", "$defs": {"b": TEXT}},
    ),
    "own name": (
        {"$id": "http://x/y", "$ref": "http://x/y#/$defs/a", "$defs": {"a": TEXT}},
        {"$ref": "#/$defs/a", "$defs": {"a": TEXT}},
    ),
    "name of an inner schema": (
        {"$id": "http://x/y", "$ref": "z#/$defs/a", "$defs": {"b": INNER}},
        {"$ref": "#/$defs/a", "$defs": {"a": TEXT}},
    ),
    "dynamic": (
        {"$dynamicAnchor": "n", "properties": {"a": {"$dynamicRef": "#n"}}},
        {"$dynamicAnchor": "n", "type": "object", "properties": {"a": AGAIN}, "$defs": {"n": NODE}},
    ),
    "recursive": (
        {"properties": {"a": {"$recursiveRef": "#"}}},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/root"}},
            "$defs": {"root": {"type": "object", "properties": {"a": {"$ref": "#/$defs/root"}}}},
        },
    ),
    "elsewhere": (
        {"type": "array", "items": TEXT, "not": {"$ref": "#/$defs/a"}, "$defs": {"a": TEXT}},
        {"type": "array", "items": TEXT},
    ),
    "fractions": (
        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.03, "multipleOf": 0.01},
        {"enum": [0.01, 0.02, 0.03], "multipleOf": 0.01},
    ),
    "fractions in a small range": (
        {"type": "number", "minimum": 0.25, "exclusiveMaximum": 0.250003},
        {"enum": [0.25, 0.250001, 0.250002]},
    ),
    "fractions in a large range": (
        {"type": "number", "minimum": 0, "maximum": 5},
        {"type": "number", "minimum": 0, "maximum": 5},
    ),
    "contains": (
        {"type": "array", "items": TEXT, "contains": {"const": "a"}, "maxItems": 2},
        {
            "anyOf": [
                {**tuple_of("item"), "minItems": 1, "maxItems": 1},
                {**tuple_of("item", "item1"), "minItems": 2, "maxItems": 2},
            ],
            "$defs": {"item": {"const": "a"}, "item1": TEXT},
        },
    ),
    "contains several": (
        {"contains": INTEGER, "minContains": 2, "maxContains": 2},
        {
            "anyOf": [{**tuple_of("item", "item"), "minItems": 2, "maxItems": 2}],
            "$defs": {"item": INTEGER},
        },
    ),
    "contains no more": (
        {"type": "array", "contains": INTEGER, "minContains": 0, "maxContains": 2},
        {"type": "array", "items": {}, "maxItems": 2},
    ),
    "contains without room": (
        {"type": "array", "contains": INTEGER, "maxItems": 0},
        {"type": "array", "items": {}, "maxItems": 0},
    ),
    "only itself": ({"$ref": "#"}, {}),
    "nowhere": ({"$ref": "#/$defs/x"}, {"$ref": "#/$defs/x"}),
    "no schema": ({"properties": 5, "minLength": "x"}, {"properties": 5, "minLength": "x"}),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_of_a_schema(name: str) -> None:
    schema, said = SAID[name]
    assert rewrite(schema) == said


def test_what_is_too_much_is_left_as_it_is() -> None:
    layers = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    bomb = {"$ref": "#/$defs/d0", "maxLength": 1, "$defs": {**layers, "d40": TEXT}}
    assert rewrite(bomb) == {**TEXT, "maxLength": 1}
    wide = {"anyOf": [{"anyOf": [{"type": "null"}] * 99, "title": "x"}] * (MOST_PARTS // 50)}
    assert rewrite(wide) == wide


def test_where_schemas_lie_in_requests() -> None:
    schema, said = SAID["pattern"]
    function = {"name": "f", "strict": True}
    for place in (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 0}}},
        {"response_format": {"type": "json_object", "schema": 0}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": 0}}, "tools": None},
        {"json_schema": 0},
        {"tools": [{"type": "function", "function": {**function, "parameters": 0}}]},
        {"tools": [{"type": "function", **function, "parameters": 0}, {"type": "web_search"}]},
        {"tools": [{"name": "f", "input_schema": 0}]},
    ):
        form = orjson.dumps({"messages": [], **place})
        body, expected = (form.replace(b":0", b":" + orjson.dumps(s)) for s in (schema, said))
        assert orjson.loads(prepare_schemas(body)) == orjson.loads(expected)


def test_other_requests_pass_as_they_are() -> None:
    for body in (b'{"messages":[]}', b'{"x":"schema\\"", "response_format":null}'):
        assert prepare_schemas(body) is body


LEAVES = st.sampled_from(
    [
        *(True, {}, TEXT, INTEGER, {"type": ["integer", "null"]}, {"enum": [1, "a"]}),
        *({"minimum": 1}, {**INTEGER, "maximum": 2}, {"type": "number", "multipleOf": 2}),
        *({"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a", "maximum": 3}, {"required": ["b"]}),
    ]
)
ALIKE = st.sampled_from([INTEGER, {"minimum": 1}, {"maximum": 3}, {"anyOf": [INTEGER, {}]}, True])
"""Of each of them some number is taken by all the others."""
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.fixed_dictionaries({"properties": st.fixed_dictionaries({"a": inner, "b": inner})})
        | st.fixed_dictionaries({"allOf": st.lists(ALIKE, min_size=1, max_size=3)})
        | st.fixed_dictionaries(
            {"anyOf": st.lists(inner, min_size=1, max_size=2), "minimum": st.just(0)}
        )
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries(
            {"contains": inner},
            optional={
                "items": inner,
                "prefixItems": st.lists(inner, min_size=1, max_size=2),
                "minContains": st.integers(0, 1),
                "maxContains": st.just(3),
            },
        )
        | st.fixed_dictionaries(
            {"type": st.just("array"), "prefixItems": st.lists(inner, min_size=1, max_size=2)}
        )
    ),
    max_leaves=8,
)
VALUES = st.recursive(
    st.sampled_from([0, 1, 2, 3, 4, "a", None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


@given(SCHEMAS, SCHEMAS, VALUES)
def test_what_fits_what_is_said_fits_the_schema(root: Any, a: Any, value: Any) -> None:
    schema = {"allOf": [root], "$defs": {"a": a}}
    said = rewrite(schema)
    assert meta.is_valid(said)
    assert is_valid(schema, value) or not is_valid(said, value)
