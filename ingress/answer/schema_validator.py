"""Makes a `jsonschema-rs` validator of a client's schema. Pure.

Patterns in JSON Schema are those of ECMA-262. The library translates most of them into its own
dialect, and this module translates the few that the library does not know. Nothing is ever fetched:
a reference must lead to a place inside the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from jsonschema_rs import (
    Draft4Validator,
    Draft7Validator,
    Draft202012Validator,
    FancyRegexOptions,
    RegexOptions,
    ValidationError,
    Validator,
    validator_cls_for,
)

from schemas.api.schema_tree import objects

Schema = dict[str, Any]
Patterns = RegexOptions | FancyRegexOptions

_ODD = re.compile(r"\\[dD][89abAB]|\\u[dD]|\\k<|\\0|\[\^?\]|\\b")
_TOKEN = re.compile(
    r"\\u(?P<high>[dD][89abAB]\w\w)\\u(?P<low>[dD][c-fC-F]\w\w)|\\k<(?P<name>\w+)>|\\0(?!\d)|\\."
    r"|\[\^?\]|\[|\]|\(\?P?<(?![=!])(?P<group>\w+)>|\((?!\?)",
    re.DOTALL,
)
_WRITTEN = {r"\0": r"\x00", r"\b": r"\x08"}
r"""``\b`` only inside brackets, where it is a backspace."""
_SETS = {"[]": r"[^\s\S]", "[^]": r"[\s\S]"}
_ENDS = ("[", "]")
_EXCLUSIVE = ("exclusiveMinimum", "exclusiveMaximum")


def compiled(schema: Schema, patterns: Patterns) -> Validator:
    """The validator. Raises ValidationError for what is no schema, and ValueError for a schema that
    is nested too deeply."""
    schema = _written(schema) if _has_odd(schema) else schema
    # `format` only annotates, as JSON Schema has it.
    return _kind(schema)(schema, offline=True, validate_formats=False, pattern_options=patterns)


def _kind(schema: Schema) -> type[Validator]:
    """The draft that the schema names, otherwise the newest. But a schema with a list as `items` is
    taken for draft 7, which writes tuples so: llama-server takes it, and many clients send it. One
    that says true or false of an exclusive bound is taken for draft 4, as OpenAPI 3.0 writes it."""
    try:
        named = "$schema" in schema and validator_cls_for(schema)
    except (ValidationError, ValueError):
        named = False
    if named:
        return named
    if any(isinstance(found.get(word), bool) for found in objects(schema) for word in _EXCLUSIVE):
        return Draft4Validator
    older = any(isinstance(found.get("items"), list) for found in objects(schema))
    return Draft7Validator if older else Draft202012Validator


def _has_odd(schema: Schema) -> bool:
    return any(
        isinstance(pattern, str) and _ODD.search(pattern)
        for found in objects(schema)
        for pattern in (found.get("pattern"), *_named(found))
    )


def _named(found: Schema) -> Iterable[str]:
    """The patterns of its `patternProperties`; none if that is no object, as a schema needs."""
    named = found.get("patternProperties")
    return named if isinstance(named, dict) else ()


def _written(found: Any) -> Any:
    """A copy of a schema with every pattern in the library's dialect."""
    if isinstance(found, list):
        return list(map(_written, found))
    if not isinstance(found, dict):
        return found
    made = {name: _written(value) for name, value in found.items()}
    if isinstance(found.get("pattern"), str):
        made["pattern"] = plain(found["pattern"])
    named = made.get("patternProperties")
    if isinstance(named, dict):
        made["patternProperties"] = {plain(name): value for name, value in named.items()}
    return made


def plain(pattern: str) -> str:
    r"""The same pattern without what the library does not know: ``\k<name>``, ``[^]``, ``[]``,
    ``\0``, ``[\b]``, and surrogate halves."""
    groups: dict[str, int] = {}
    count, inside = 0, False

    def written(match: re.Match[str]) -> str:
        nonlocal count, inside
        found = match[0]
        if match["high"]:
            high, low = (int(match[half], 16) & 0x3FF for half in ("high", "low"))
            return f"\\u{{{0x10000 + (high << 10) + low:X}}}"
        if found in _ENDS and not (inside and found == "["):  # a "[" in brackets is a letter
            inside = found == "["
        elif found in _WRITTEN and (inside or found != r"\b"):
            return _WRITTEN[found]
        elif not inside:
            if match["name"] in groups:
                return f"\\{groups[match['name']]}"
            if found in _SETS:
                return _SETS[found]
            if found.startswith("("):
                count += 1
                groups[match["group"] or str(-count)] = count  # no name is a number below zero
        return found

    return _TOKEN.sub(written, pattern)
