"""Documents out of events, for clients that did not stream. Of whole recorded streams:
tests/unit/workers/engines/llamacpp/test_aggregate.py."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.api import completions, sse
from schemas.api.base import PLAIN, Api
from schemas.api.chat.answer import API as CHAT
from schemas.api.chat.collector import Collector
from schemas.api.messages.answer import API as MESSAGES
from schemas.api.responses.answer import API as RESPONSES
from tests.doubles.llamacpp import DATA


def collected(api: Api, *events: dict[str, Any]) -> Any:
    collector = api.collector()
    assert collector is not None
    for event in events:
        collector.add(event)
    return collector.document


def recorded(name: str) -> list[dict[str, Any]]:
    return list(sse.objects((DATA / f"{name}.sse").read_bytes()))


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


def call(index: int, **function: str) -> dict[str, Any]:
    return {"index": index, "id": f"c{index}", "function": function}


def test_tool_calls_are_merged_by_index() -> None:
    message = collected(CHAT, *recorded("tools"))["choices"][0]["message"]
    assert message["content"] == ""
    assert [each["function"] for each in message["tool_calls"]] == [
        {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"name": "get_time", "arguments": '{"city": "Paris"}'},
    ]
    assert all(set(each) == {"id", "type", "function"} for each in message["tool_calls"])


def test_a_tool_calls_name_is_whole_each_time() -> None:
    first = delta(tool_calls=[call(1, name="get", arguments="")])
    others = call(0, name="f", arguments="{}"), call(1, name="get_time", arguments="[")
    message = collected(CHAT, first, delta(tool_calls=others))["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"id": "c0", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c1", "function": {"name": "get_time", "arguments": "["}},
    ]


def test_unknown_fields_are_kept_and_the_last_wins() -> None:
    first = {**delta(new="x"), "top": [1], "kept": True}
    document = collected(CHAT, first, {**delta(new="y"), "top": [2]})
    assert (document["top"], document["kept"]) == ([2], True)
    assert document["choices"][0]["message"]["new"] == "y"


def test_choices_of_a_text_come_in_their_order() -> None:
    events = [{"choices": [{"index": index, "text": text}]} for index, text in ((1, "b"), (0, "a"))]
    document = collected(completions.API, *events, events[1])
    assert [choice["text"] for choice in document["choices"]] == ["aa", "b"]


def test_text_may_be_added_alone() -> None:
    collector = Collector()
    collector.add(delta(content="a"))
    collector.add_text("b")
    document = collector.document
    assert document is not None
    assert document["choices"][0]["message"]["content"] == "ab"


def test_a_message_with_a_call() -> None:
    document = collected(MESSAGES, *recorded("messages_tool"))
    (use,) = [block for block in document["content"] if block["type"] == "tool_use"]
    assert (use["name"], use["input"]) == ("get_weather", {"city": "Paris"})
    assert document["stop_reason"] == "tool_use"
    assert document["usage"]["output_tokens"] > 0


def test_a_response_is_in_its_last_event() -> None:
    events = recorded("responses")
    assert collected(RESPONSES, *events) == events[-1]["response"]


def using(text: str, reason: str) -> list[dict[str, Any]]:
    """A message with one call, which was given `text` and ended for this reason."""
    return [
        {"type": "message_start", "message": {"content": []}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": text},
        },
        {"type": "message_delta", "delta": {"stop_reason": reason}},
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded", "stop_sequence"])
@pytest.mark.parametrize(
    ("text", "given_"), [("", {}), ('{"city": "Pa', {}), ('{"a": 1}', {"a": 1})]
)
def test_a_call_that_was_cut_is_given_nothing(reason: str, text: str, given_: Any) -> None:
    (block,) = collected(MESSAGES, *using(text, reason))["content"]
    assert (block["name"], block["input"]) == ("f", given_)


def test_a_call_that_is_malformed_all_by_itself_is_none() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        collected(MESSAGES, *using("{", "tool_use"))


@pytest.mark.parametrize(
    ("api", "events"),
    [
        (CHAT, [{"choices": [], "usage": {}}]),
        (MESSAGES, recorded("messages")[:-1]),
        (RESPONSES, recorded("responses")[:-1]),
    ],
)
def test_what_is_not_whole_is_no_document(api: Api, events: list[dict[str, Any]]) -> None:
    assert collected(api, *events) is None
    assert PLAIN.collector() is None


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
MESSAGE = {"role": "assistant", "content": "hi", "tool_calls": [CALL]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2}
TEXT = {"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}
SAID = {"type": "message", "id": "m", "role": "assistant", "content": [TEXT]}
CALLED = {"type": "function_call", "id": "f", "call_id": "c", "name": "g", "arguments": "{}"}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("api", "document"),
    [
        (
            CHAT,
            {
                "id": "x",
                "object": "chat.completion",
                "choices": [
                    {"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"},
                    {
                        "index": 1,
                        "message": {"role": "assistant", "content": "b", "reasoning_content": "c"},
                        "finish_reason": "length",
                        "logprobs": {"content": [{"token": "b"}]},
                    },
                ],
                "usage": USAGE,
            },
        ),
        (
            completions.API,
            {
                "id": "x",
                "object": "text_completion",
                "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}],
                "usage": USAGE,
            },
        ),
        (RESPONSES, {"id": "r", "status": "completed", "output": [SAID, CALLED], "usage": {}}),
        (RESPONSES, {"id": "r", "status": "incomplete", "output": [SAID]}),
        (
            MESSAGES,
            {
                "id": "m",
                "type": "message",
                "content": [THOUGHT, {"type": "text", "text": "hi"}, USE],
                "stop_reason": "tool_use",
                "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 4},
            },
        ),
    ],
)
def test_a_document_that_is_put_as_a_stream_is_the_same_document(
    api: Api, document: dict[str, Any]
) -> None:
    events = list(sse.objects(api.as_stream(document, usage=True)))
    assert collected(api, *events) == document
    stream = sse.Splitter()
    stream.feed(api.as_stream(document, usage=False))
    assert api.ended(stream)
    assert api.begun.search(api.as_stream(document, usage=False))
    assert PLAIN.as_stream(document, usage=True) == b""
