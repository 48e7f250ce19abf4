"""Makes schemas narrower, for a request whose first answer did not fit. Pure.

No engine's grammar can say all that a schema can, and a small model that was wrong once is most
often wrong again. So where a schema has words that the usual grammars lack, the second request has
fewer values that all fit: of numbers with a bound, decimals and whole numbers near to it; of items
that must differ, one. The first request keeps them all, because a good model needs no such help.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

from schemas.api.decimals import range_of
from schemas.api.json_format import Formats
from schemas.api.json_schema import ONE_SCHEMA, SCHEMAS_BY_NAME, SCHEMAS_IN_LIST

Entry = dict[str, Any]

_WIDENING = ("not", "if", "contains")
"""Words whose narrower schema would allow more, or that engines leave to us anyway."""
_OF_NUMBERS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
_ELSEWHERE = ("enum", "const", "$ref", "anyOf", "oneOf", "allOf")
"""Beside these words, a schema's bounds are left to the check."""
_NEAR = 10
"""How far from its only bound a range has fractions; beyond are whole numbers."""
_MANY = 100
"""Multiples, if a range has a single bound or none."""
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def narrowed(request: Entry, formats: Formats) -> Entry:
    """The request with narrower schemas; those of `formats`, which are schemas that it has."""
    for each in formats:
        if each.schema is not None:
            steps = [name or int(index) for name, index in _STEP.findall(each.param)]
            request = _changed(request, steps)
    return request


def _changed(found: Any, steps: list[Any]) -> Any:
    """A copy of `found` in which the schema at this place is narrower."""
    if not steps:
        return narrow(found)
    step, *rest = steps
    if isinstance(found, list):
        return [*found[:step], _changed(found[step], rest), *found[step + 1 :]]
    return {**found, step: _changed(found[step], rest)}


def narrow(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found = {name: _inner(name, each) for name, each in schema.items()}
    if found.get("uniqueItems") is True and "maxItems" not in found:
        found["maxItems"] = max(1, int(found.get("minItems") or 0))
    if not found.keys().isdisjoint(_ELSEWHERE):
        return found
    kind = found.get("type", "number")
    kinds = kind if isinstance(kind, list) else [kind]
    if not (ways := _ways(found, kinds)):
        return found
    # Each of the ways says its own type and bounds.
    rest = {name: each for name, each in found.items() if name not in ("type", *_OF_NUMBERS)}
    others = [{"type": each} for each in kinds if each not in ("number", "integer")]
    return {**rest, "anyOf": [*ways, *others]}


def _inner(name: str, found: Any) -> Any:
    if name in _WIDENING:
        return found
    if name in SCHEMAS_BY_NAME and isinstance(found, dict):
        return {inner: narrow(each) for inner, each in found.items()}
    if isinstance(found, list) and name in (*SCHEMAS_IN_LIST, "items"):
        return list(map(narrow, found))
    return narrow(found) if name in ONE_SCHEMA else found


def _ways(schema: Entry, kinds: list[Any]) -> list[Entry]:
    """Schemas of numbers that fit; none if `schema` says nothing of them, or all grammars can say
    what it says."""
    numbers, fractions = range_of(schema), "number" in kinds
    if numbers is None or not (fractions or ("integer" in kinds and numbers.step)):
        return []
    far = numbers.step * _MANY if numbers.step else Decimal(_NEAR)
    low, high = numbers.low, numbers.high
    near = replace(
        numbers,
        low=low or (high[0] - far if high else Decimal(), False),
        high=high or (low[0] + far if low else far, False),
    )
    values = [each for each in near.values() if fractions or isinstance(each, int)]
    whole = {"type": "integer", **{name: schema[name] for name in _OF_NUMBERS if name in schema}}
    closed = bool(low and high and values)
    return [*([{"enum": values}] if values else []), *([] if numbers.step or closed else [whole])]
