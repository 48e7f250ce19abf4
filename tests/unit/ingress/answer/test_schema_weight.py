"""The weight of a schema: a bound for the work of a check that is known beforehand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.answer.schema_checker import _light
from ingress.answer.schema_weight import HEAVY, PATTERN, weight

LAYERS = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, 1),
        ({"type": "integer"}, 2),
        ({"enum": [1, 2, 3]}, 5),
        ({"items": {"type": "integer"}}, 3),
        ({"pattern": "a"}, 2 + PATTERN),
        ({"patternProperties": {"a": {}, "b": {}}}, 4 + 2 * PATTERN),
        ({"patternProperties": 5}, 2),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}}, 7),
        ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {}}}, 5),
    ],
)
def test_what_schemas_weigh(schema: dict[str, Any], expected: int) -> None:
    assert weight(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"items": {"$ref": "#"}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/d0", "$defs": {**LAYERS, "d40": {"type": "integer"}}},
        {"$ref": "#here", "$defs": {"x": {"$anchor": "here"}}},
        {"items": {"$dynamicRef": "#/x"}},
        {"$ref": "#/nowhere"},
        {"$ref": 5},
        {"$id": "x", "items": {}},
        {"enum": list(range(HEAVY))},
    ],
)
def test_what_cannot_be_bounded_is_heavy(schema: dict[str, Any]) -> None:
    assert weight(schema) == HEAVY


@pytest.mark.parametrize("pattern", [r"\p{L}{9999}", "((a{99}){99}){99}", "(?=a)a", r"(a)\1"])
def test_a_pattern_that_may_be_slow_is_not_light(pattern: str) -> None:
    assert _light({"pattern": pattern}) is None
    assert _light({"pattern": "^(a+)+$"}) is not None


SCHEMAS = st.recursive(
    st.sampled_from([{}, True, {"$ref": "#/$defs/a"}, {"type": "integer"}, {"pattern": "a"}]),
    lambda inner: (
        st.fixed_dictionaries({"items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=3)})
    ),
    max_leaves=8,
)


@given(SCHEMAS, SCHEMAS)
def test_what_is_around_something_weighs_more(a: Any, root: Any) -> None:
    whole = {"allOf": [root], "$defs": {"a": a}}
    assert min(HEAVY, weight({"not": whole, "$defs": {"a": a}})) >= weight(whole) > 0
