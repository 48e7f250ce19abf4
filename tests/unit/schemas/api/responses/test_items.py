"""Items of a response's input that no engine could read are refused with their place."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api.responses.request import REQUEST
from schemas.errors import InvalidRequest

PART = {"type": "summary_text", "text": "x"}


@pytest.mark.parametrize(
    ("thought", "place"),
    [
        ({"summary": "x"}, "input[0].summary"),
        ({"summary": [PART, None]}, "input[0].summary[1]"),
        ({"summary": [PART], "content": {"x": 1}}, "input[0].content"),
        ({"summary": [], "content": [7]}, "input[0].content[0]"),
    ],
)
def test_a_thought_that_is_none(thought: dict[str, Any], place: str) -> None:
    asked = {"model": "m", "input": [{"type": "reasoning", "id": "x", **thought}]}
    with pytest.raises(InvalidRequest) as refused:
        REQUEST.read(orjson.dumps(asked))
    assert refused.value.param == place


def test_allowed_tools_that_are_no_list() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": 1.5}
    with pytest.raises(InvalidRequest) as refused:
        REQUEST.read(orjson.dumps({"model": "m", "input": "x", "tool_choice": choice}))
    assert refused.value.param == "tool_choice.tools"


def test_a_thought_passes() -> None:
    item = {"type": "reasoning", "id": "x", "summary": [PART], "content": None}
    asked, _ = REQUEST.read(orjson.dumps({"model": "m", "input": [item]}))
    assert asked["input"][0]["summary"] == [PART]
