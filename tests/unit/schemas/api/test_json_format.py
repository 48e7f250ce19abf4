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
    for form in (
        CHAT.json_format({"response_format": asked}),
        RESPONSES.json_format({"text": {"format": flat}}),
    ):
        assert form is not None
        assert (form.schema, form.is_object) == (schema, is_object)


@pytest.mark.parametrize("asked", [None, {"type": "text"}, {"type": "structural_tag"}])
def test_what_wants_nothing(asked: Any) -> None:
    assert CHAT.json_format({"response_format": asked}) is None
    assert CHAT.json_format({}) is None
    assert RESPONSES.json_format({"text": {"format": asked}}) is None
    assert RESPONSES.json_format({}) is None


def test_a_schema_beside_json_object_must_be_one() -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHAT.json_format({"response_format": {"type": "json_object", "schema": 5}})
    assert caught.value.param == "response_format.schema"
