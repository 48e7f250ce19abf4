from __future__ import annotations

from typing import Any

from schemas.api.chat.structured import FinishedTexts, finished_texts


def choice(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"finish_reason": finish, "message": {"content": content, **message}}


def chunk(
    content: str | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": content, **more}, "finish_reason": finish}
    return {"choices": [choice]}


def told(*chunks: dict[str, Any], limit: int = 99) -> list[list[str | None]]:
    texts = FinishedTexts(limit)
    return [list(texts.add(each)) for each in chunks]


def test_only_finished_texts_count() -> None:
    document = {
        "choices": [
            choice("a"),
            choice("b", "length"),
            choice("c", "content_filter"),
            choice(None, "tool_calls", tool_calls=[{}]),
            choice("d", tool_calls=[{}]),
            choice("e", refusal="no"),
            choice(None),
        ]
    }
    assert list(finished_texts(document)) == ["a", ""]


def test_a_streams_texts_are_told_choice_by_choice_where_they_end() -> None:
    parts = [chunk("1"), chunk("2", index=1), chunk("3", "stop"), chunk("4", index=1)]
    assert told(*parts, chunk(None, "stop", 1)) == [[], [], ["13"], [], ["24"]]
    assert told(chunk("1"), chunk(None, "length"), {}) == [[], [], []]


def test_calls_and_refusals_take_their_text_out() -> None:
    assert told(chunk("a", refusal="I"), chunk("b", "stop")) == [[], []]
    assert told(chunk("a"), chunk(tool_calls=[{"index": 0}], finish="stop")) == [[], []]


def test_a_text_that_was_too_long_to_keep_is_none() -> None:
    assert told(chunk("12"), chunk("3", "stop"), limit=2) == [[], [None]]
    assert told(chunk("12"), chunk("3", "stop"), limit=3) == [[], ["123"]]
    assert told(chunk("12"), chunk("3", "length"), limit=2) == [[], []]
