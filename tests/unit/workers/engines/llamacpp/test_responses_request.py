"""What a request for ``/v1/responses`` becomes before llama-server gets it."""

from __future__ import annotations

from typing import Any

import pytest

from workers.engines.llamacpp.responses_request import prepare
from workers.engines.openai.refusal import Refusal

USER = {"role": "user", "content": "hi"}
SAID = {"type": "output_text", "text": "yes", "annotations": []}
THOUGHT = {"type": "reasoning", "id": "rs_1"}


def words(text: str) -> list[dict[str, str]]:
    return [{"type": "reasoning_text", "text": text}]


@pytest.mark.parametrize(
    ("item", "sent"),
    [
        ({"role": "assistant", "content": "yes"}, {"type": "message", "content": "yes"}),
        ({"role": "assistant", "content": [SAID], "id": "msg_1"}, {"type": "message"}),
        (
            {**THOUGHT, "summary": [], "content": [*words("a"), *words("b")]},
            {"content": words("ab")},
        ),
        (
            {**THOUGHT, "summary": [{"type": "summary_text", "text": "a"}], "content": []},
            {"summary": [], "content": words("a")},
        ),
        (USER, {}),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, {}),
        ({"type": "function_call_output", "call_id": "c", "output": "x"}, {}),
        ({"type": "function_call_output", "output": "x"}, {"call_id": ""}),
        ({"type": "function_call", "call_id": None, "name": "f"}, {"call_id": ""}),
    ],
)
def test_items_are_as_the_engine_knows_them(item: dict[str, Any], sent: dict[str, Any]) -> None:
    asked = {"input": [USER, item, USER]}
    assert prepare(asked)["input"] == [USER, {**item, **sent}, USER]
    assert asked["input"][1] is item, "the request itself is left as it came"


CUSTOM = {"type": "custom_tool_call", "id": "x", "call_id": "c", "name": "patch", "input": "+a"}
SHELL = {"type": "local_shell_call", "call_id": "c", "status": "completed", "action": {"a": 1}}


@pytest.mark.parametrize(
    ("item", "name", "arguments"),
    [(CUSTOM, "patch", '{"input":"+a"}'), (SHELL, "local_shell", '{"action":{"a":1}}')],
)
def test_calls_of_other_kinds_are_those_of_functions(
    item: dict[str, Any], name: str, arguments: str
) -> None:
    out = {"type": f"{item['type']}_output", "call_id": "c"}
    asked = [USER, item, {**out, "output": "ok"}, {**out, "output": [{"exit": 0}]}]
    told = {"type": "function_call_output", "call_id": "c"}
    assert prepare({"input": asked})["input"] == [
        USER,
        {"type": "function_call", "call_id": "c", "name": name, "arguments": arguments},
        {**told, "output": "ok"},
        {**told, "output": '[{"exit":0}]'},
    ]


def test_the_tools_that_a_client_found_are_the_output_of_its_search() -> None:
    found = {"type": "tool_search_output", "call_id": "c", "tools": [{"name": "f"}]}
    told = {"type": "function_call_output", "call_id": "c", "output": '[{"name":"f"}]'}
    assert prepare({"input": [USER, found]})["input"] == [USER, told]


@pytest.mark.parametrize("kind", ["web_search_call", "mcp_call", "mcp_list_tools"])
def test_what_another_server_did_is_left_out(kind: str) -> None:
    assert prepare({"input": [USER, {"type": kind, "id": "x"}, USER]})["input"] == [USER, USER]


@pytest.mark.parametrize("kind", ["compaction", "custom_tool_call", "x_called", 5])
def test_an_item_that_has_no_other_form_is_named(kind: Any) -> None:
    with pytest.raises(Refusal, match="no item of the type") as caught:
        prepare({"input": [USER, {"type": kind, "id": "x"}]})
    assert caught.value.param == "input[1].type"


def test_a_thought_without_words_is_left_out() -> None:
    locked = {**THOUGHT, "summary": [], "encrypted_content": "abc"}
    assert prepare({"input": [USER, locked, USER]})["input"] == [USER, USER]


def test_what_was_to_be_kept_is_refused_by_name() -> None:
    with pytest.raises(Refusal) as caught:
        prepare({"input": [USER, {"type": "item_reference", "id": "msg_1"}]})
    assert (caught.value.param, caught.value.code) == ("input[1].type", "unsupported_parameter")


def test_a_text_passes() -> None:
    assert prepare({"input": "hi"}) == {"input": "hi", "stream": True}
