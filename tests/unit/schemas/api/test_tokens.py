"""Tokens of a text in llama-server's form and in vLLM's."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api.tokens import DETOKENIZE, TOKENIZE, in_both_forms
from schemas.errors import InvalidRequest


@pytest.mark.parametrize(
    "request_",
    [
        {"content": "a"},
        {"content": ["a", 5, "b"], "with_pieces": True},
        {"content": ""},
        {"prompt": "a", "add_special_tokens": False},
        {"messages": [{"role": "user", "content": "a"}], "tools": []},
    ],
)
def test_either_form_will_do(request_: dict[str, Any]) -> None:
    assert not TOKENIZE.check(request_)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "content"),
        ({"content": 5}, "content"),
        ({"content": "a", "prompt": "a"}, "prompt"),
        ({"prompt": "a", "messages": [{}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"content": "a", "with_pieces": 1}, "with_pieces"),
    ],
)
def test_a_refusal_says_where(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        TOKENIZE.check(request_)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("request_", "param"),
    [({}, "tokens"), ({"tokens": "a"}, "tokens"), ({"tokens": [1, -1]}, "tokens[1]")],
)
def test_tokens_are_ids(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DETOKENIZE.check(request_)
    assert refused.value.param == param


def test_whole_numbers_are_ids_however_they_are_written() -> None:
    request: dict[str, Any] = {"tokens": [1.0, 2]}
    assert DETOKENIZE.check(request)
    assert request == {"tokens": [1, 2]}


def test_an_answer_has_the_fields_of_both() -> None:
    plain = {"tokens": [1, 2], "count": 2, "max_model_len": 9}
    assert in_both_forms({}, [1, 2], [], 9) == plain
    assert in_both_forms({"return_token_strs": True}, [1, 2], ["a", "b"], 9) == {
        **plain,
        "token_strs": ["a", "b"],
    }
    pairs = [{"id": 1, "piece": "a"}, {"id": 2, "piece": "b"}]
    assert in_both_forms({"with_pieces": True}, [1, 2], ["a", "b"], 9) == {**plain, "tokens": pairs}
