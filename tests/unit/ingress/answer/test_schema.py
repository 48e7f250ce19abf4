from __future__ import annotations

from typing import Any

import pytest

from ingress.answer.schema import Wanted, of_chat, of_responses, plain_fault
from schemas.errors import InvalidRequest

SCHEMA = {"type": "object"}


def choice(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"finish_reason": finish, "message": {"content": content, **message}}


@pytest.mark.parametrize(
    ("asked", "schema", "whole"),
    [
        ({"type": "json_object"}, None, True),
        ({"type": "json_object", "schema": SCHEMA}, SCHEMA, True),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, SCHEMA, True),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}, SCHEMA, True),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False}}, None, False),
    ],
)
def test_what_a_chat_wants(asked: Any, schema: Any, whole: bool) -> None:
    wanted = of_chat({"response_format": asked})
    assert wanted is not None
    assert (wanted.schema, wanted.whole) == (schema, whole)
    flat = {"type": asked["type"], **asked.get("json_schema", asked)}
    same = of_responses({"text": {"format": flat}})
    assert same is not None
    assert (same.schema, same.whole) == (schema, whole)


@pytest.mark.parametrize("asked", [None, {"type": "text"}, {"type": "structural_tag"}])
def test_what_wants_nothing(asked: Any) -> None:
    assert of_chat({"response_format": asked}) is None
    assert of_chat({}) is None
    assert of_responses({"text": {"format": asked}}) is None
    assert of_responses({}) is None


def test_a_schema_beside_json_object_must_be_one() -> None:
    with pytest.raises(InvalidRequest) as caught:
        of_chat({"response_format": {"type": "json_object", "schema": 5}})
    assert caught.value.param == "response_format.schema"


def wanted() -> Wanted:
    found = of_chat({"response_format": {"type": "json_object"}})
    assert found is not None
    return found


def test_only_finished_texts_are_judged() -> None:
    document = {
        "choices": [
            choice("a"),
            choice("b", "length"),
            choice("c", "content_filter"),
            choice(None, "tool_calls", tool_calls=[{}]),
            choice("d", tool_calls=[{}]),
            choice("e", refusal="no"),
            choice(None),
        ]
    }
    assert list(wanted().texts(document)) == ["a", ""]


def test_only_completed_responses_are_judged() -> None:
    found = of_responses({"text": {"format": {"type": "json_object"}}})
    assert found is not None
    part = {"type": "output_text", "text": "{}"}
    items = [{"type": "message", "content": [part, {"type": "refusal"}]}, {"type": "reasoning"}]
    document = {"status": "completed", "output": items}
    assert list(found.texts(document)) == ["{}"]
    assert list(found.texts({**document, "status": "incomplete"})) == []


def test_json_without_a_schema() -> None:
    assert plain_fault(wanted(), '{"a":1}') == ""
    assert "object" in plain_fault(wanted(), "[1]")
    assert "not JSON" in plain_fault(wanted(), "{")
