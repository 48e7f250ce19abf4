"""What is read out of an answer as it comes."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.console.pages import reply
from deploy.console.pages.reply import Reply
from schemas.api import sse


def _delta(**delta: Any) -> bytes:
    return sse.dump({"choices": [{"index": 0, "delta": delta}]})


WHOLE = b"".join(
    [
        sse.comment("queued position=3 eta=4s"),
        _delta(role="assistant"),
        sse.comment("x-headrace-served-by node:gpu-box"),
        _delta(reasoning_content="Well, "),
        _delta(content="Par"),
        _delta(content="is"),
        sse.dump({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        sse.dump({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}),
        sse.DONE,
    ]
)


@pytest.mark.parametrize("size", [1, 7, 64, len(WHOLE)])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    found = Reply(10.0)
    found.head({"X-Headrace-Queue-Wait": "0.25", "content-type": "text/event-stream"})
    for at in range(0, len(WHOLE), size):
        found.feed(WHOLE[at : at + size], 11.0)
    found.end(12.0)
    assert (found.text, found.thoughts, found.finish, found.error) == (
        "Paris",
        "Well, ",
        "stop",
        "",
    )
    assert found.notes == {"queue-wait": "0.25", "served-by": "node:gpu-box"}
    assert found.place == "waits at place 3 of the queue, about 4 s"
    assert found.ttft == 1.0


def test_the_pace_is_that_behind_the_first_token() -> None:
    found = Reply(0.0)
    found.feed(_delta(content="a"), 1.0)
    found.feed(_delta(content="b"), 3.0)
    found.feed(sse.dump({"choices": [], "usage": {"completion_tokens": 9}}) + sse.DONE, 3.0)
    found.end(9.0)
    assert found.rate == 4.0  # eight tokens within two seconds
    assert ("TTFT", "1.00 s") in found.figures()
    assert ("tokens/s", "4.0") in found.figures()


def test_without_usage_the_pieces_are_counted() -> None:
    found = Reply(0.0)
    for at in (1.0, 2.0, 3.0):
        found.feed(_delta(content="a"), at)
    assert found.rate == 1.0


def test_too_few_tokens_have_no_pace() -> None:
    found = Reply(0.0)
    found.feed(_delta(content="a"), 1.0)
    assert (found.ttft, found.rate) == (1.0, None)


def test_an_error_in_a_stream_is_told_with_its_code() -> None:
    found = Reply(0.0)
    error = {"message": "The worker died.", "code": "worker_lost"}
    found.feed(_delta(content="a") + sse.dump({"error": error}), 1.0)
    found.end(1.0)
    assert (found.text, found.error) == ("a", "The worker died. (worker_lost)")


def test_an_answer_that_was_cut_off_is_no_whole_one() -> None:
    found = Reply(0.0)
    found.feed(_delta(content="a"), 1.0)
    found.end(1.0)
    assert found.error == "The answer ended before it was whole."


def test_calls_are_put_together() -> None:
    found = Reply(0.0)
    first = {"index": 0, "function": {"name": "look", "arguments": '{"at"'}}
    found.feed(_delta(tool_calls=[first]), 1.0)
    found.feed(_delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]), 1.0)
    assert found.calls == {0: ("look", '{"at":1}')}


@pytest.mark.parametrize(
    "event",
    [
        {"choices": 1},
        {"choices": [1]},
        {"choices": [{"delta": 1}]},
        {"choices": [{"delta": {"content": 1, "tool_calls": [1, {"function": 2}]}}]},
        {"usage": 3},
        {"error": "broken"},
    ],
)
def test_an_odd_event_does_no_harm(event: Any) -> None:
    found = Reply(0.0)
    found.feed(sse.dump(event) + sse.write(b"[1]") + sse.write(b"{"), 1.0)
    assert found.text == ""


def test_an_answer_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MOST", 10)
    found = Reply(0.0)
    for _ in range(5):
        found.feed(_delta(content="abcd"), 1.0)
    assert (found.text, found.cut) == ("abcdabcd", True)


def _call(index: int, arguments: str, name: str = "f") -> bytes:
    function = {"name": name, "arguments": arguments}
    return _delta(tool_calls=[{"index": index, "function": function}])


def test_tool_calls_are_bounded_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MOST", 10)
    found = Reply(0.0)
    found.feed(_delta(content="abc") + _call(0, "1234") + _call(0, "12"), 1.0)
    assert (found.calls, found.cut) == ({0: ("f", "123412")}, False)
    found.feed(_call(1, "1") + _delta(content="d"), 1.0)
    assert (found.text, found.calls, found.cut) == ("abc", {0: ("f", "123412")}, True)


def test_the_number_of_tool_calls_is_bounded() -> None:
    found = Reply(0.0)
    for index in range(reply.MOST_CALLS + 1):
        found.feed(_call(index, "", ""), 1.0)
    assert (len(found.calls), found.cut) == (reply.MOST_CALLS, True)


def test_who_served_is_told_in_words() -> None:
    notes = {
        "served-by": "node:a, node:b",
        "cost": "0",
        "cached-tokens": "8",
        "queue-wait": "0.002",
    }
    assert reply.served(notes) == [
        ("served by", "a, b"),
        ("queue", "2 ms"),
        ("prompt in cache", "8 tokens"),
    ]
