from __future__ import annotations

from typing import Any

import pytest

from schemas.api.json_format import Finished
from schemas.api.messages.answer import API
from schemas.api.messages.formats import FinishedParts, finished, objected

SCHEMA = {"type": "object"}
FORMAT = {"type": "json_schema", "schema": SCHEMA}
TEXT = {"type": "text", "text": "{}"}
USE = {"type": "tool_use", "id": "u", "name": "f", "input": {"a": 1}}
TOOL = {"name": "f", "input_schema": SCHEMA}
THOUGHT = {"type": "thinking", "thinking": "hm"}
CALL = Finished('{"a":1}', "f")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"output_config": {"format": FORMAT}}, "output_config.format.schema"),
        ({"output_format": FORMAT, "output_config": {"effort": "low"}}, "output_format.schema"),
        ({"tools": [{**TOOL, "strict": True}]}, "tools[0].input_schema"),
    ],
)
def test_what_is_wanted(asked: dict[str, Any], param: str) -> None:
    formats = API.json_formats(asked)
    assert formats is not None
    assert [(form.param, form.schema) for form in formats] == [(param, SCHEMA)]
    assert not API.format_fields.isdisjoint(asked)


@pytest.mark.parametrize(
    "asked", [{}, {"output_config": {"effort": "low"}}, {"output_format": None}, {"tools": [TOOL]}]
)
def test_what_wants_nothing(asked: dict[str, Any]) -> None:
    assert API.json_formats(asked) is None


def test_only_what_is_finished_counts() -> None:
    message: dict[str, Any] = {"stop_reason": "end_turn", "content": [THOUGHT, TEXT]}
    assert list(finished(message)) == [Finished("{}")]
    assert list(finished({**message, "stop_reason": "max_tokens"})) == []
    assert list(finished({"stop_reason": "tool_use", "content": [TEXT, USE]})) == [CALL]


def test_a_streams_parts_are_told_with_the_reason_why_it_ends() -> None:
    def told(reason: str, *blocks: tuple[Any, str, str], limit: int = 99) -> list[Finished]:
        parts, found = FinishedParts(limit), list[Finished]()
        for place, (block, name, more) in enumerate(blocks):
            begun = {"type": "content_block_start", "index": place, "content_block": block}
            found += parts.add(begun)
            for piece in more:
                delta = {"type": "content_block_delta", "index": place, "delta": {name: piece}}
                found += parts.add(delta)
        assert not found
        return list(parts.add({"type": "message_delta", "delta": {"stop_reason": reason}}))

    text = ({"type": "text", "text": ""}, "text", "{}")
    use = ({**USE, "input": {}}, "partial_json", '{"a":1}')
    assert told("end_turn", (THOUGHT, "thinking", "x"), text) == [Finished("{}")]
    assert told("tool_use", text, use) == [CALL]
    assert told("tool_use", ({**USE, "input": {}}, "partial_json", "")) == [Finished("{}", "f")]
    assert told("max_tokens", text) == []
    assert told("end_turn", text, limit=1) == [Finished(None)]


def test_the_model_is_told_what_was_wrong() -> None:
    hi = {"role": "user", "content": "hi"}
    asked = {"messages": [hi], "max_tokens": 5}
    again = objected(asked, {"content": [THOUGHT, TEXT]}, "it is odd")
    assert again["max_tokens"] == 5
    assert again["messages"][:2] == [hi, {"role": "assistant", "content": [TEXT]}]
    (told,) = again["messages"][2]["content"]
    assert "it is odd" in told["text"]
    *_, said, results = objected(asked, {"content": [USE]}, "it is odd")["messages"]
    assert said == {"role": "assistant", "content": [USE]}
    (result,) = results["content"]
    assert (result["type"], result["tool_use_id"], result["is_error"]) == ("tool_result", "u", True)
    assert "it is odd" in result["content"]
    assert len(objected(asked, {"content": []}, "")["messages"]) == 2
