from __future__ import annotations

from typing import Any

import pytest

from schemas.api.base import Event
from schemas.api.chat.continuation import Continuation, may_continue

FIRST = {"id": "chatcmpl-1", "created": 1, "model": "m"}
SECOND = {"id": "gen-2", "created": 2, "model": "m"}


def chunk(delta: dict[str, Any], of: dict[str, Any] = FIRST, **more: Any) -> Event:
    return {**of, "choices": [{"index": 0, "delta": delta, "finish_reason": None} | more]}


def test_the_second_part_is_told_as_of_the_first() -> None:
    continuation = Continuation()
    texts = [
        continuation.heard(chunk(delta)) for delta in ({"role": "assistant"}, {"content": "a"})
    ]
    assert texts == ["", "a"]
    assert continuation.told(chunk({"role": "assistant", "content": ""}, SECOND), "a") == []
    assert continuation.told(chunk({"role": "assistant", "content": "b"}, SECOND), "a") == [
        chunk({"content": "b"})
    ]
    ended = chunk({}, SECOND, finish_reason="stop")
    assert continuation.told(ended, "a") == [chunk({}, finish_reason="stop")]


@pytest.mark.parametrize(
    "event",
    [
        chunk({"tool_calls": [{"index": 0}]}),
        chunk({"content": "x"}, logprobs={"content": []}),
        chunk({"content": "x"}, index=1),
        chunk({}, finish_reason="stop"),
        {"error": {"message": "x"}},
    ],
)
def test_what_is_more_than_text_is_not_continued(event: Event) -> None:
    assert Continuation().heard(event) is None


def test_an_error_in_the_second_part_is_told_as_it_is() -> None:
    assert Continuation().told({"error": {"message": "x"}}, "") == [{"error": {"message": "x"}}]


def test_the_second_part_gets_the_first_id_that_is_one() -> None:
    joined = Continuation()
    for event in ({"id": "", "choices": []}, {"id": "x", "choices": []}):
        assert joined.heard(event) == ""
    assert joined.told({"id": "y", "choices": []}, "") == [{"id": "x", "choices": []}]


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        ({}, True),
        ({"n": 1, "response_format": {"type": "text"}, "tools": [{}]}, True),
        ({"n": 2}, False),
        ({"logprobs": True}, False),
        ({"messages": [USER, {"role": "assistant", "content": "a"}]}, False),
    ],
)
def test_what_may_be_continued(asked: dict[str, Any], may: bool) -> None:
    assert may_continue({"messages": [USER], **asked}) is may
