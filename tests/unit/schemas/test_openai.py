from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import InvalidRequest
from schemas.openai import ChatRequest, refusal

GOOD: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def refused(body: object) -> InvalidRequest:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(body)
    return refusal(caught.value)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stop": [1]}, "stop"),
        ({"stop": 1}, "stop"),
        ({"tools": [1]}, "tools[0]"),
        ({"stream_options": {"include_usage": "x"}}, "stream_options.include_usage"),
        ({"model": 7}, "model"),
    ],
)
def test_a_refusal_says_where(change: dict[str, Any], param: str) -> None:
    error = refused({**GOOD, **change})
    assert error.param == param
    assert repr(param) in error.message


def test_a_missing_parameter_is_called_missing() -> None:
    error = refused({"model": "m"})
    assert (error.param, error.message) == ("messages", "Missing required parameter: 'messages'.")


@pytest.mark.parametrize("body", [[], "x", 5, None, True])
def test_what_is_no_object_is_refused_as_a_whole(body: object) -> None:
    assert refused(body).param == "body"


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool", "function"])
def test_every_role_of_openai_is_known(role: str) -> None:
    asked = ChatRequest.model_validate({"messages": [{"role": role}]})
    assert asked.messages[0].role == role


def test_fields_nobody_acts_on_pass() -> None:
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}], "odd": 1}],
        "stream": None,
        "new_field": {"a": [1]},
        "temperature": 0,
        "stop": ["a", "b"],
        "max_tokens": -1,
    }
    assert ChatRequest.model_validate(body).stream is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(JSON, st.sampled_from([*ChatRequest.model_fields, ""]))
def test_any_json_is_taken_or_refused_with_a_place(value: Any, name: str) -> None:
    body = {**GOOD, name: value} if name else value
    try:
        ChatRequest.model_validate(body)
    except ValidationError as fault:
        error = refusal(fault)
        assert error.param
        assert error.status == 400
    else:
        assert isinstance(body, dict)
