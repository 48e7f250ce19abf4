"""Finds and rewrites the schemas in a request, at any endpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.engines.llamacpp.schema.rewrite import rewrite
from workers.engines.openai import parsed
from workers.engines.openai.stream import says

Entry = dict[str, Any]

SIGNS = b'schema"', b'"parameters"'
"""Each request with a schema contains one of these."""
_ARGUMENTS = "parameters", "input_schema"
_FORMATS = "response_format", "json_schema"


def prepare_schemas(body: bytes) -> bytes:
    """The body with its schemas rewritten."""
    if not says(body, *SIGNS):
        return body
    request: Entry = parsed.load(body)
    changes: Entry = {name: _format(request[name]) for name in _FORMATS if request.get(name)}
    if isinstance(tools := request.get("tools"), list):
        changes["tools"] = [_tool(each) if isinstance(each, dict) else each for each in tools]
    try:
        return parsed.write({**request, **changes}, body) if changes else body
    except TypeError:  # a schema that refers to itself became too deep to write
        return body


def _format(wanted: Any) -> Any:
    """A `response_format`, which may hold its schema in several places; or a bare schema."""
    if not isinstance(wanted, Mapping):
        return wanted
    if wanted.get("type") not in ("json_object", "json_schema", "text"):
        return rewrite({**wanted})
    found = {**wanted}
    for name in ("schema", "json_schema"):
        inner = wanted.get(name)
        if isinstance(inner, dict):
            found[name] = rewrite(inner) if name == "schema" else _inner(inner)
    return found


def _inner(named: Entry) -> Entry:
    schema = named.get("schema")
    return {**named, "schema": rewrite(schema)} if isinstance(schema, dict) else named


def _tool(tool: Entry) -> Entry:
    function = tool.get("function")
    if isinstance(function, dict):
        return {**tool, "function": _tool(function)}
    found = {name: rewrite(tool[name]) for name in _ARGUMENTS if isinstance(tool.get(name), dict)}
    return {**tool, **found}
