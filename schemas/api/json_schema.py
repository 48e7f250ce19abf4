"""Checks that a tool's arguments are described by a JSON schema that any engine can use.

Only keywords that shape an answer are checked. Patterns have too many dialects to check, and an
engine may know keywords that are unknown here. A null counts as left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.api.shape import invalid

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
# Keywords whose value is an object of schemas, a list of schemas, or one schema.
SCHEMAS_BY_NAME = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
SCHEMAS_IN_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
ONE_SCHEMA = ("items", "additionalProperties", "not", "if", "then", "else", "contains")


def check_schema(schema: Mapping[str, Any], where: str) -> None:
    """Raises InvalidRequest with the path of the fault."""
    waiting: list[tuple[Any, str]] = [(schema, where)]  # a list: deep schemas must not recurse
    while waiting:
        found, at = waiting.pop()
        if isinstance(found, bool):  # true allows anything, false nothing
            continue
        if not isinstance(found, Mapping):
            raise invalid(at, "a JSON schema is needed, which is an object")
        _check_words(found, at)
        waiting += _inside(found, at)


def _check_words(schema: Mapping[str, Any], at: str) -> None:
    kind = schema.get("type")
    for each in kind if isinstance(kind, list) and kind else [kind]:
        if each not in (None, *TYPES):
            raise invalid(f"{at}.type", f"a schema's type is one of {', '.join(TYPES)}")
    needed = schema.get("required")
    if needed is not None and not _are_texts(needed):
        raise invalid(f"{at}.required", "a list of the properties' names is needed")
    if not isinstance(schema.get("enum"), list | None):
        raise invalid(f"{at}.enum", "a list of values is needed")


def _are_texts(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def _inside(schema: Mapping[str, Any], at: str) -> Iterator[tuple[Any, str]]:
    """The schemas inside `schema`, with their paths. Before 2020, `items` could be a list."""
    for word in SCHEMAS_BY_NAME:
        if (found := schema.get(word)) is not None:
            if not isinstance(found, Mapping):
                raise invalid(f"{at}.{word}", "an object of schemas is needed")
            yield from ((each, f"{at}.{word}.{name}") for name, each in found.items())
    for word in (*SCHEMAS_IN_LIST, *ONE_SCHEMA):
        found = schema.get(word)
        if isinstance(found, list) and word in (*SCHEMAS_IN_LIST, "items"):
            yield from ((each, f"{at}.{word}[{index}]") for index, each in enumerate(found))
        elif found is not None and word in SCHEMAS_IN_LIST:
            raise invalid(f"{at}.{word}", "a list of schemas is needed")
        elif found is not None:
            yield found, f"{at}.{word}"
