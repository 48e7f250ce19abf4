"""What has to be JSON, as a chat says it and as a response does."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api.chat.answer import API as CHAT
from schemas.api.responses.answer import API as RESPONSES
from schemas.errors import InvalidRequest

SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("asked", "schema", "is_object"),
    [
        ({"type": "json_object"}, None, True),
        ({"type": "json_object", "schema": SCHEMA}, SCHEMA, True),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, SCHEMA, True),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}, SCHEMA, True),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False}}, None, False),
    ],
)
def test_what_is_wanted(asked: Any, schema: Any, is_object: bool) -> None:
    flat = {"type": asked["type"], **asked.get("json_schema", asked)}
    for formats in (
        CHAT.json_formats({"response_format": asked}),
        RESPONSES.json_formats({"text": {"format": flat}}),
    ):
        assert formats is not None
        (form,) = formats
        assert (form.schema, form.is_object) == (schema, is_object)


def test_arguments_of_strict_tools_have_to_be_of_their_schema() -> None:
    nulls = {**SCHEMA, "title": None, "properties": {"a": {"const": None, "pattern": None}}}
    without = {**SCHEMA, "properties": {"a": {"const": None}}}
    tools: list[dict[str, Any]] = [
        {"name": "f", "strict": True, "parameters": nulls},
        {"name": "g", "strict": False, "parameters": SCHEMA},
        {"name": "h", "parameters": SCHEMA},
        {"name": "i", "strict": True},
    ]
    flat = [{"type": "web_search", "strict": True}, *({"type": "function", **t} for t in tools)]
    nested = [{"type": "custom"}, *({"type": "function", "function": t} for t in tools)]
    for formats, param in (
        (CHAT.json_formats({"tools": nested}), "tools[1].function.parameters"),
        (RESPONSES.json_formats({"tools": flat}), "tools[1].parameters"),
    ):
        assert formats is not None
        assert formats.text is None
        found = {name: (form.param, form.schema) for name, form in formats.calls.items()}
        assert found == {"f": (param, without)}
    assert CHAT.json_formats({"tools": nested[2:]}) is None


@pytest.mark.parametrize("asked", [None, {"type": "text"}, {"type": "structural_tag"}])
def test_what_wants_nothing(asked: Any) -> None:
    assert CHAT.json_formats({"response_format": asked}) is None
    assert CHAT.json_formats({}) is None
    assert RESPONSES.json_formats({"text": {"format": asked}}) is None
    assert RESPONSES.json_formats({}) is None


def test_a_schema_beside_json_object_must_be_one() -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHAT.json_formats({"response_format": {"type": "json_object", "schema": 5}})
    assert caught.value.param == "response_format.schema"
