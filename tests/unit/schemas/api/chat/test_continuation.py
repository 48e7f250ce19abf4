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
    assert continuation.told(chunk({"role": "assistant", "content": ""}, SECOND), 1) == []
    assert continuation.told(chunk({"role": "assistant", "content": "b"}, SECOND), 1) == [
        chunk({"content": "b"})
    ]
    ended = chunk({}, SECOND, finish_reason="stop")
    assert continuation.told(ended, 1) == [chunk({}, finish_reason="stop")]


@pytest.mark.parametrize(("tokens", "expected"), [(2, (10, 7)), (20, (0, 17))])
def test_what_was_begun_counts_as_written(tokens: int, expected: tuple[int, int]) -> None:
    continuation = Continuation()
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    [told] = continuation.told({**SECOND, "choices": [], "usage": usage}, tokens)
    counts = {"prompt_tokens": expected[0], "completion_tokens": expected[1]}
    assert told["usage"] == {**usage, **counts}


@pytest.mark.parametrize(
    "event",
    [
        chunk({"tool_calls": [{"index": 0}]}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "x"}, logprobs={"content": []}),
        chunk({"content": "x"}, index=1),
        chunk({}, finish_reason="stop"),
        {"error": {"message": "x"}},
    ],
)
def test_what_is_more_than_text_is_not_continued(event: Event) -> None:
    assert Continuation().heard(event) is None


def test_an_error_in_the_second_part_is_told_as_it_is() -> None:
    assert Continuation().told({"error": {"message": "x"}}, 1) == [{"error": {"message": "x"}}]


def test_the_second_part_gets_the_first_id_that_is_one() -> None:
    joined = Continuation()
    for event in ({"id": "", "choices": []}, {"id": "x", "choices": []}):
        assert joined.heard(event) == ""
    assert joined.told({"id": "y", "choices": []}, 1) == [{"id": "x", "choices": []}]


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        ({}, True),
        ({"n": 1, "response_format": {"type": "text"}, "tools": [{}]}, True),
        ({"n": 2}, False),
        ({"logprobs": True}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"messages": [USER, {"role": "assistant", "content": "a"}]}, False),
    ],
)
def test_what_may_be_continued(asked: dict[str, Any], may: bool) -> None:
    assert may_continue({"messages": [USER], **asked}) is may
