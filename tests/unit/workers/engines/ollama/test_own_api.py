"""Prompts of every API in the words of Ollama's own."""

from __future__ import annotations

from typing import Any

import pytest

from workers.engines.ollama.own_api import native, text_bytes

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOURCE = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("request_", "messages"),
    [
        ({"messages": [user("a")]}, [user("a")]),
        ({"messages": [user([{"text": "a"}, PICTURE, {"text": "b"}])]}, [user("a"), user("b")]),
        ({"messages": [user(None)]}, [user("")]),
        ({"input": "a"}, [user("a")]),
        (
            {"input": [user([{"type": "input_text", "text": "a"}])], "instructions": "b"},
            [{"role": "system", "content": "b"}, user("a")],
        ),
        (
            {
                "input": [
                    {"type": "function_call", "name": "f", "arguments": '{"a":1}'},
                    {"type": "function_call_output", "output": "sunny"},
                ]
            },
            [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
                },
                {"role": "tool", "content": "sunny"},
            ],
        ),
        (
            {"system": [{"type": "text", "text": "b"}], "messages": [user([SOURCE])]},
            [{"role": "system", "content": "b"}],
        ),
        (
            {
                "messages": [
                    user([{"type": "tool_use", "input": {"a": 1}}]),
                    user([{"type": "tool_result", "content": [{"text": "c"}, SOURCE]}]),
                    user([{"type": "tool_result", "content": "d"}]),
                ]
            },
            [user('{"a":1}'), user("c"), user("d")],
        ),
    ],
)
def test_chats(request_: dict[str, Any], messages: list[Any]) -> None:
    assert native(request_) == {"messages": messages, "tools": []}


def test_calls_belong_to_the_message_before_them() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "no json"}}
    (said,) = native({"messages": [{"role": "assistant", "tool_calls": [call]}]})["messages"]
    assert said["tool_calls"] == [{"function": {"name": "f", "arguments": {}}}]


def test_a_prompt() -> None:
    assert native({"prompt": "a", "suffix": None}) == {"prompt": "a", "suffix": ""}


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"name": "f", "input_schema": {"type": "object"}},
    ],
)
def test_tools_of_every_api(tool: dict[str, Any]) -> None:
    (found,) = native({"messages": [], "tools": [tool]})["tools"]
    assert found["function"] == {"name": "f", "parameters": {"type": "object"}}


def test_the_size_is_of_the_text_alone() -> None:
    asked = {"system": "ab", "messages": [user([{"text": "cd"}, PICTURE, SOURCE])], "model": "x"}
    without = {"system": "ab", "messages": [user([{"text": "cd"}, {"type": "image_url"}])]}
    assert text_bytes(asked) == text_bytes({**without}) + len("image")
    assert text_bytes({"input": "é", "instructions": "x"}) == 3


@pytest.mark.parametrize("given", [["a"], [[user("a")]], [user(["a"])], 5])
def test_what_is_no_prompt_is_told(given: Any) -> None:
    with pytest.raises((AttributeError, TypeError)):
        native({"messages": given})
