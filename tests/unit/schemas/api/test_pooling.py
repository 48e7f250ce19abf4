"""Scores, classes and pooled answers: what is asked, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import pooling
from schemas.api.endpoints import CLASSIFY, POOLING, SCORE
from schemas.errors import InvalidRequest

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize("pair", pooling.PAIRS)
@pytest.mark.parametrize("sides", [("a", "b"), ("a", ["b", "c"]), (["a", "b"], ["c", "d"])])
def test_a_score_is_asked_in_each_form(pair: tuple[str, str], sides: tuple[Any, Any]) -> None:
    assert not SCORE.shape.check(dict(zip(pair, sides, strict=True)))


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "text_1"),
        ({"text_1": "a"}, "text_2"),
        ({"text_2": "a"}, "text_1"),
        ({"queries": "a"}, "documents"),
        ({"documents": "a"}, "queries"),
        ({"text_1": "a", "text_2": []}, "text_2"),
        ({"text_1": "a", "text_2": [5]}, "text_2[0]"),
        ({"text_1": "a", "text_2": ["b"] * 2049}, "text_2"),
        ({"text_1": ["a", "b"], "text_2": ["c"]}, "text_1"),
        ({"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}, "text_1"),
        ({"text_1": "a", "text_2": "b", "queries": "c"}, "queries"),
    ],
)
def test_what_is_no_pair_is_refused(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SCORE.shape.check(asked)
    assert caught.value.param == param


@pytest.mark.parametrize("endpoint", [CLASSIFY, POOLING], ids=lambda each: each.word)
def test_texts_ids_and_chats_are_taken(endpoint: Any) -> None:
    for given in ("a", ["a", "b"], [1, 2], [[1], [2, 3]]):
        assert not endpoint.shape.check({"input": given})
    assert not endpoint.shape.check({"messages": [USER], "add_generation_prompt": True})
    asked = {"input": [1.0, 2]}
    assert endpoint.shape.check(asked)
    assert repr(asked["input"]) == "[1, 2]"


@pytest.mark.parametrize("endpoint", [CLASSIFY, POOLING], ids=lambda each: each.word)
@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"prompt_string": "a"}]}, "input"),
        ({"input": "a", "messages": [USER]}, "messages"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_is_no_input_is_refused(endpoint: Any, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        endpoint.shape.check(asked)
    assert (caught.value.param or "").partition(".")[0] == param


def test_a_pooled_answer_is_json() -> None:
    """vLLM's `bytes` has its usage in a header, and no JSON."""
    assert not POOLING.shape.check({"input": "a", "encoding_format": "base64"})
    with pytest.raises(InvalidRequest, match="'float' or 'base64'"):
        POOLING.shape.check({"input": "a", "encoding_format": "bytes"})
