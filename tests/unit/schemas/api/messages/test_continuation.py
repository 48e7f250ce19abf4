from __future__ import annotations

from typing import Any

import pytest

from schemas.api.base import Event
from schemas.api.messages.continuation import Continuation, may_continue


def message(kind: str, **more: Any) -> Event:
    return {"type": kind, **more}


def block(kind: str, index: int = 0, **more: Any) -> Event:
    return message("content_block_start", index=index, content_block={"type": kind, **more})


def says(text: str, index: int = 0) -> Event:
    delta = {"type": "text_delta", "text": text}
    return message("content_block_delta", index=index, delta=delta)


START = message("message_start", message={"id": "msg_1", "content": [], "usage": {}})


def begun(*events: Event) -> Continuation:
    made = Continuation()
    assert all(made.heard(event) is not None for event in events)
    return made


def told(continuation: Continuation, *events: Event) -> list[Event]:
    return [each for event in events for each in continuation.told(event, "a")]


def test_the_second_part_has_no_beginning() -> None:
    continuation = begun(START, block("text", text=""), says("a"))
    rest = [says("b"), message("content_block_stop", index=0)]
    found = told(continuation, START, block("text", text=""), message("ping"), *rest)
    assert found == [message("ping"), *rest]


def test_a_tool_behind_the_text_is_a_block_of_its_own() -> None:
    continuation = begun(START, block("text", text=""), says("a"))
    call = {"type": "input_json_delta", "partial_json": "{}"}
    delta = message("content_block_delta", index=0, delta=call)
    ended = message("content_block_stop", index=0)
    found = told(continuation, START, block("tool_use", name="t"), delta, ended)
    assert [(event["type"], event["index"]) for event in found] == [
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
    ]


def test_messages_of_which_nothing_was_said_begin_their_block() -> None:
    rest = [block("text", text=""), says("a")]
    assert told(begun(START), START, *rest) == rest


@pytest.mark.parametrize(
    "event",
    [
        block("tool_use", 1, name="t"),
        block("thinking"),
        message("message_stop"),
        message("error", error={}),
    ],
)
def test_messages_of_more_than_text_are_not_continued(event: Event) -> None:
    assert begun(START, block("text", text=""), says("a")).heard(event) is None


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        ({}, True),
        ({"thinking": {"type": "disabled"}}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, False),
        ({"messages": [{"role": "assistant", "content": "a"}]}, False),
    ],
)
def test_what_may_be_continued(asked: dict[str, Any], may: bool) -> None:
    assert may_continue({"messages": [{"role": "user", "content": "x"}], **asked}) is may
