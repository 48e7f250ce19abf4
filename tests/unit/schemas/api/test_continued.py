"""What is asked of the next holder of a broken stream, and how its usage is told, at each API."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import endpoints

CHAT, MESSAGES = endpoints.CHAT.path, endpoints.MESSAGES.path
RESPONSES, COMPLETIONS = endpoints.RESPONSES.path, endpoints.COMPLETIONS.path
USER, SO_FAR = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "so far"}
FORMAT = {"type": "json_schema"}
CONTINUED = {
    CHAT: (
        {
            "messages": [USER],
            "max_tokens": 5,
            "max_completion_tokens": 9,
            "response_format": FORMAT,
        },
        {"messages": [USER, SO_FAR], "max_tokens": 3, "max_completion_tokens": 7},
    ),
    COMPLETIONS: ({"prompt": "hi ", "max_tokens": 5}, {"prompt": "hi so far", "max_tokens": 3}),
    RESPONSES: (
        {"input": "hi", "max_output_tokens": 5, "text": {"format": FORMAT}, "temperature": 0},
        {"input": [USER, SO_FAR], "max_output_tokens": 3, "temperature": 0},
    ),
    MESSAGES: (
        {"messages": [USER], "max_tokens": 5, "output_config": {"format": FORMAT}},
        {"messages": [USER, SO_FAR], "max_tokens": 3},
    ),
}


@pytest.mark.parametrize("path", CONTINUED)
def test_the_rest_is_asked_for_with_what_is_left_of_the_limit(path: str) -> None:
    asked, expected = CONTINUED[path]
    assert endpoints.APIS[path].continued(asked, "so far", 2) == expected


@pytest.mark.parametrize("limit", [None, -1, 0])
def test_no_limit_stays_none(limit: int | None) -> None:
    asked = {"messages": [USER], "max_tokens": limit}
    assert endpoints.APIS[CHAT].continued(asked, "", 2) == asked


def test_a_limit_that_is_used_up_leaves_one_token() -> None:
    asked = {"messages": [USER], "max_tokens": 2}
    assert endpoints.APIS[CHAT].continued(asked, "a", 7)["max_tokens"] == 1


def test_behind_no_word_a_format_is_kept() -> None:
    asked = {"messages": [USER], "response_format": FORMAT}
    assert endpoints.APIS[CHAT].continued(asked, "", 0) == asked


@pytest.mark.parametrize(
    ("limit", "tokens", "spent"),
    [(5, 4, False), (5, 5, True), (5, 6, True), (None, 9, False), (-1, 9, False)],
)
def test_a_limit_is_used_up_by_as_many_tokens(limit: int | None, tokens: int, spent: bool) -> None:
    assert endpoints.APIS[CHAT].is_spent({"max_tokens": limit}, tokens) is spent


@pytest.mark.parametrize(
    ("path", "event", "expected"),
    [
        (
            CHAT,
            {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]},
            {"choices": [{"delta": {"content": ""}, "finish_reason": "length"}]},
        ),
        (
            COMPLETIONS,
            {"choices": [{"text": "a", "finish_reason": None}]},
            {"choices": [{"text": "", "finish_reason": None}]},
        ),
        (
            RESPONSES,
            {"item": {"content": [{"text": "a"}]}, "status": "incomplete"},
            {"item": {"content": [{"text": ""}]}, "status": "incomplete"},
        ),
        (
            MESSAGES,
            {"delta": {"stop_reason": "end_turn", "stop_sequence": None}},
            {"delta": {"stop_reason": "max_tokens", "stop_sequence": None}},
        ),
    ],
)
def test_behind_a_limit_that_is_used_up_there_is_no_word(
    path: str, event: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert endpoints.APIS[path].without_words(event) == expected


@pytest.mark.parametrize(
    ("path", "found", "expected"),
    [
        (
            CHAT,
            {"usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}},
            {"usage": {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}},
        ),
        (
            RESPONSES,
            {"response": {"usage": {"input_tokens": 12, "output_tokens": 5}}},
            {"response": {"usage": {"input_tokens": 10, "output_tokens": 7}}},
        ),
        (MESSAGES, {"usage": {"output_tokens": 5}}, {"usage": {"output_tokens": 7}}),
        (
            CHAT,
            {"usage": {"prompt_tokens": 1, "completion_tokens": 5}},
            {"usage": {"prompt_tokens": 0, "completion_tokens": 7}},
        ),
        (CHAT, {"choices": [], "usage": None}, {"choices": [], "usage": None}),
    ],
)
def test_what_was_begun_counts_as_written(
    path: str, found: dict[str, Any], expected: dict[str, Any]
) -> None:
    endpoints.APIS[path].move_usage(found, 2, 2)
    assert found == expected


def test_a_beginning_may_have_been_written_in_more_tokens_than_it_is_read_in() -> None:
    found = {"usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}}
    endpoints.APIS[CHAT].move_usage(found, 2, 3)
    assert found == {"usage": {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18}}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_error_that_is_null_is_none(path: str) -> None:
    """Some servers write all fields in each event."""
    said = {"delta": {"content": "a"}} if path == CHAT else {"text": "a"}
    event = {"id": "1", "error": None, "choices": [{"index": 0, **said}]}
    continuation = endpoints.APIS[path].continuation()
    assert continuation.heard(event) == "a"
    assert continuation.told({**event, "id": "2"}, "a") == [event]
