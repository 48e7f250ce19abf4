from __future__ import annotations

from typing import Any

from schemas.api.chat.formats import FinishedParts, finished, objected
from schemas.api.json_format import SHOWN, Finished


def choice(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"finish_reason": finish, "message": {"content": content, **message}}


def chunk(
    content: str | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": content, **more}, "finish_reason": finish}
    return {"choices": [choice]}


def told(*chunks: dict[str, Any], limit: int = 99) -> list[list[str | None]]:
    parts = FinishedParts(limit)
    return [[part.text for part in parts.add(each)] for each in chunks]


def call(arguments: str | None, name: str = "f", **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


def test_only_what_is_finished_counts() -> None:
    document = {
        "choices": [
            choice("a"),
            choice("b", "length", tool_calls=[call("1")]),
            choice("c", "content_filter"),
            choice(None, "tool_calls", tool_calls=[call("{}"), call(None, "g")]),
            choice("d", tool_calls=[call("2")]),
            choice("e", refusal="no"),
            choice(None),
        ]
    }
    calls = Finished("{}", "f"), Finished("{}", "g"), Finished("2", "f")
    assert list(finished(document)) == [Finished("a"), *calls, Finished("")]


def test_a_streams_texts_are_told_choice_by_choice_where_they_end() -> None:
    parts = [chunk("1"), chunk("2", index=1), chunk("3", "stop"), chunk("4", index=1)]
    assert told(*parts, chunk(None, "stop", 1)) == [[], [], ["13"], [], ["24"]]
    assert told(chunk("1"), chunk(None, "length"), {}) == [[], [], []]


def test_calls_and_refusals_take_their_text_out() -> None:
    assert told(chunk("a", refusal="I"), chunk("b", "stop")) == [[], []]
    begun = [{"index": 0, "id": "a", **call('{"a":')}]
    more = [{"index": 0, "function": {"arguments": "1}"}}]
    calls = chunk("a", tool_calls=begun), chunk(tool_calls=more), chunk(finish="tool_calls")
    assert told(*calls) == [[], [], ['{"a":1}']]


def test_calls_of_a_stream_are_told_apart_by_index_and_by_id() -> None:
    parts = FinishedParts(99)
    for index, known, name in ((0, "a", "f"), (1, "b", "g"), (0, "c", "h"), (0, "c", None)):
        more = {"index": index, "id": known, "function": {"name": name, "arguments": "1"}}
        assert not list(parts.add(chunk(tool_calls=[more])))
    whole = list(parts.add(chunk(finish="tool_calls")))
    assert whole == [Finished("1", "f"), Finished("1", "g"), Finished("11", "h")]


def test_a_text_that_was_too_long_to_keep_is_none() -> None:
    assert told(chunk("12"), chunk("3", "stop"), limit=2) == [[], [None]]
    assert told(chunk("12"), chunk("3", "stop"), limit=3) == [[], ["123"]]
    assert told(chunk("12"), chunk("3", "length"), limit=2) == [[], []]


USER = {"role": "user", "content": "hi"}
ASKED = {"messages": [USER], "seed": 7}


def test_the_model_is_told_what_was_wrong_with_its_text() -> None:
    again = objected(ASKED, {"choices": [choice("no")]}, "it is no JSON")
    assert again["messages"][:2] == [USER, {"role": "assistant", "content": "no"}]
    assert again["messages"][2]["role"] == "user"
    assert "it is no JSON" in again["messages"][2]["content"]
    assert again["seed"] == 7
    long = objected(ASKED, {"choices": [choice("x" * 9999)]}, "it is no JSON")
    assert len(long["messages"][1]["content"]) < SHOWN + 10
    for none in ([choice("")], [choice("a"), choice("b")]):
        roles = [each["role"] for each in objected(ASKED, {"choices": none}, "")["messages"]]
        assert roles == ["user", "user"]


def test_the_model_is_told_what_was_wrong_with_its_call_as_the_calls_result() -> None:
    calls = [call('{"a":1}', id="x", index=0), call("{", id="y", type="function")]
    document = {"choices": [choice(None, "tool_calls", tool_calls=calls)]}
    _, said, *results = objected(ASKED, document, "it is odd")["messages"]
    assert said["content"] is None
    assert [each["function"]["arguments"] for each in said["tool_calls"]] == ['{"a":1}', "{}"]
    assert [each["tool_call_id"] for each in results] == ["x", "y"]
    assert all("it is odd" in each["content"] and each["role"] == "tool" for each in results)
