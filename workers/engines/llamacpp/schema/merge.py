"""Merges two schemas into one that takes only what both take, as far as possible. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_CHOICES = ("anyOf", "oneOf")
_MANY = 64
"""Most combinations of two choices; if there are more, the second choice is left out."""


def merge(one: Schema, other: Schema) -> Schema:
    """The merged schema; what cannot be merged is as in `one`."""
    found = {**other, **one}
    for name in one.keys() & other.keys():
        found[name] = _both(name, one[name], other[name])
    if choices := _choices(one, other):
        for name in _CHOICES:
            found.pop(name, None)
        found["anyOf"] = choices
    return found


def _both(name: str, one: Any, other: Any) -> Any:
    match name, one, other:
        case "type", _, _:
            found = _types(one, other)
        case "properties" | "patternProperties", dict(), dict():
            shared = {each: _all(one[each], other[each]) for each in one if each in other}
            found = {**one, **other, **shared}
        case "required", list(), list():
            found = [*one, *(each for each in other if each not in one)]
        case "enum", list(), list():
            found = [each for each in one if each in other]
        case "items" | "additionalProperties", _, _:
            found = _all(one, other)
        case _, int() | float(), int() | float() if name in _LEAST:
            found = max(one, other)
        case _, int() | float(), int() | float() if name in _MOST:
            found = min(one, other)
        case _:
            found = one
    return found


def _all(one: Any, other: Any) -> Any:
    if isinstance(one, bool):
        return other if one else one
    if isinstance(other, bool):
        return one if other else other
    return {"allOf": [one, other]}


def _types(one: Any, other: Any) -> Any:
    """The types in both; an integer is a number, too."""
    first, second = (set(each) if isinstance(each, list) else {each} for each in (one, other))
    both = first & second
    if "number" in first | second and "integer" in first | second:
        both |= {"integer"}
    # If no type fits both, the ingress finds that out.
    return both.pop() if len(both) == 1 else sorted(both) or one


def _choices(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Schema]:
    """All pairs of both schemas' choices, if each has one."""
    first, second = (
        next((each[name] for name in _CHOICES if name in each), None) for each in (one, other)
    )
    if not isinstance(first, list) or not isinstance(second, list):
        return []
    if len(first) * len(second) > _MANY:
        return first
    return [{"allOf": [here, there]} for here in first for there in second]
