from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import meta

from schemas.api.json_schema import TYPES, check_schema
from schemas.errors import InvalidRequest

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"type": "nonsense"}, "p.type"),
    ({"type": ["string", "OBJECT"]}, "p.type"),
    ({"type": {}}, "p.type"),
    ({"properties": []}, "p.properties"),
    ({"properties": {"a": 5}}, "p.properties.a"),
    ({"properties": {"a": {"items": {"type": "x"}}}}, "p.properties.a.items.type"),
    ({"items": 5}, "p.items"),
    ({"items": [{}, {"type": 1}]}, "p.items[1].type"),
    ({"anyOf": {}}, "p.anyOf"),
    ({"anyOf": [{}, "x"]}, "p.anyOf[1]"),
    ({"$defs": {"d": {"required": "a"}}}, "p.$defs.d.required"),
    ({"required": [1]}, "p.required"),
    ({"enum": "a"}, "p.enum"),
    ({"not": []}, "p.not"),
]


def test_what_is_no_schema_is_refused_with_its_place(subtests: pytest.Subtests) -> None:
    for schema, param in FAULTS:
        with subtests.test(f"{schema!r:.60} {param!r:.60}"):
            with pytest.raises(InvalidRequest) as caught:
                check_schema(schema, "p")
            assert caught.value.param == param
            assert not meta.is_valid(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        {"type": ["string", "null"], "pattern": r"^\p{L}+$", "format": "odd", "x-mine": 5},
        {"properties": {"type": {"type": "string"}, "enum": {"enum": [1, None]}}},
        {"anyOf": [True, {"$ref": "#/$defs/a"}], "$defs": {"a": {"const": 1}}, "items": False},
        {"type": None, "properties": None, "items": None, "anyOf": None, "required": None},
        {"type": "array", "items": [{"type": "string"}, {"type": "number"}]},
    ],
)
def test_what_is_one_passes(schema: dict[str, Any]) -> None:
    check_schema(schema, "p")


WORDS = ("type", "properties", "items", "anyOf", "required", "enum", "additionalProperties", "x")
SCHEMAS = st.recursive(
    st.sampled_from([*TYPES, "nonsense", 5, None, True, "a"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(WORDS), SCHEMAS, max_size=3))
def test_nothing_that_is_a_schema_is_refused(schema: dict[str, Any]) -> None:
    if meta.is_valid(schema):
        check_schema(schema, "p")
