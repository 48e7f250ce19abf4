"""What a request is taken to use, before anybody knows."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.limits import estimate
from ingress.limits.estimate import ANSWER, MEDIA
from ingress.models.routes import Plan
from schemas.api.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, TRANSCRIPTIONS
from schemas.errors import InvalidRequest, UnsupportedParameter

PLAN = Plan("m", "m", 2, 30, 60)
TEXT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PICTURES: dict[str, Any] = {"messages": [{"role": "user", "content": [PICTURE]}]}


def test_four_bytes_are_a_token() -> None:
    assert estimate.prompt(CHAT, TEXT, 400) == 100
    assert estimate.prompt(EMBEDDINGS, {"input": "hi"}, 41) == 11


def test_a_picture_is_not_counted_by_its_bytes() -> None:
    assert estimate.prompt(CHAT, PICTURES, 10**7) == MEDIA
    assert estimate.prompt(TRANSCRIPTIONS, {"model": "m"}, 10**7) == 0


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({}, ANSWER),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": -1}, ANSWER),
        ({"max_tokens": None}, ANSWER),
    ],
)
def test_an_answer_has_as_many_tokens_as_it_may(asked: dict[str, Any], tokens: int) -> None:
    assert estimate.answer(CHAT, asked) == tokens


def test_each_api_has_its_own_word_for_it() -> None:
    assert estimate.answer(RESPONSES, {"max_output_tokens": 5}) == 5
    assert estimate.answer(MESSAGES, {"max_tokens": 6}) == 6
    assert estimate.answer(COMPLETIONS, {}) == 16
    assert estimate.answer(EMBEDDINGS, {"input": "hi"}) == 0


@pytest.mark.parametrize("value", [-1, 11])
def test_more_than_the_key_may_have_is_refused_by_name(value: int) -> None:
    with pytest.raises(InvalidRequest) as fault:
        estimate.bounded(10, PLAN, CHAT, {**TEXT, "max_completion_tokens": value})
    assert fault.value.param == "max_completion_tokens"


def test_who_sets_no_limit_gets_the_keys() -> None:
    asked, told = estimate.bounded(10, PLAN, RESPONSES, {"input": "hi"})
    assert asked == {"input": "hi", "max_output_tokens": 10}
    assert told == "max_output_tokens is 10, the limit of this key"


def test_where_there_are_no_words_nothing_is_bounded() -> None:
    asked = {"input": "hi"}
    assert estimate.bounded(10, PLAN, EMBEDDINGS, asked) == (asked, "")


def test_the_field_is_one_that_the_model_heeds(unheeded: Any) -> None:
    asked, _ = estimate.bounded(10, unheeded("max_tokens"), CHAT, TEXT)
    assert asked["max_completion_tokens"] == 10
    with pytest.raises(UnsupportedParameter):
        estimate.bounded(10, unheeded("max_tokens", "max_completion_tokens"), CHAT, TEXT)


@pytest.fixture
def unheeded() -> Any:
    from dataclasses import replace

    from ingress.models import fields
    from schemas.nodes import Ignored

    def made(*names: str) -> Plan:
        able = replace(
            fields.UNKNOWN,
            open=True,
            tops=frozenset(names),
            ignored=tuple(Ignored(name, "no") for name in names),
        )
        return replace(PLAN, ability=able)

    return made
