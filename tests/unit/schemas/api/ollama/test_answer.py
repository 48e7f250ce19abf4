"""Ollama's lines and documents: what a stream says, joined, is what the document says."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama import ChatResponse, GenerateResponse

from schemas.api import sse
from schemas.api.chat.collector import Collector
from schemas.api.ollama import answer
from schemas.api.ollama.answer import Answer, Lines, Watch

LIMIT = 10_000
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
TIMINGS = {"prompt_ms": 2.5, "predicted_ms": 40.0, "prompt_n": 5, "predicted_n": 7}


def told(write: answer.Write = answer.as_message) -> Answer:
    """Its clock goes on by a second each time it is looked at."""
    return Answer("m", write, Watch(map(float, count(1)).__next__))


def delta(said: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": reason}]}


def call(index: int, **function: str) -> dict[str, Any]:
    known = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": index, **known, "function": function}]}


def lines(events: list[dict[str, Any]], write: answer.Write = answer.as_message) -> list[Any]:
    reader = Lines(told(write), LIMIT)
    found = b"".join(reader.feed(sse.dump(event)) for event in events) + reader.feed(sse.DONE)
    return [orjson.loads(line) for line in found.splitlines()]


def whole(events: list[dict[str, Any]]) -> Any:
    collector = Collector()
    for event in events:
        collector.add(event)
    assert collector.document is not None
    return answer.document(told(), collector.document)


def joined(found: list[Any]) -> dict[str, Any]:
    """What the messages of the lines say together."""
    messages = [line["message"] for line in found]
    texts = {
        name: "".join(message.get(name) or "" for message in messages)
        for name in ("content", "thinking")
    }
    return {**texts, "calls": [call for each in messages for call in each.get("tool_calls") or ()]}


TEXT = st.text(max_size=6)
PIECES = st.lists(
    st.one_of(
        TEXT.map(lambda text: {"content": text}),
        TEXT.map(lambda text: {"reasoning_content": text}),
    ),
    max_size=6,
)
ARGUMENTS = st.dictionaries(TEXT, st.one_of(st.integers(0, 9), TEXT), max_size=2)


@given(PIECES, st.lists(ARGUMENTS, max_size=3), st.sampled_from(["stop", "length", "tool_calls"]))
def test_the_lines_joined_are_the_document(
    said: list[dict[str, Any]], calls: list[dict[str, Any]], reason: str
) -> None:
    events = [delta({"role": "assistant", "content": None}), *map(delta, said)]
    for index, arguments in enumerate(calls):
        text = orjson.dumps(arguments).decode()
        events.append(delta(call(index, name=f"f{index}", arguments=text[:3])))
        events.append(delta(call(index, arguments=text[3:])))
    events += [delta({}, reason), {"choices": [], "usage": USAGE, "timings": TIMINGS}]
    streamed, document = lines(events), whole(events)
    assert joined(streamed) == joined([document])
    assert [line["done"] for line in streamed] == [False] * (len(streamed) - 1) + [True]
    last, same = streamed[-1], ("done", "done_reason", "eval_count", "prompt_eval_count")
    assert {name: last[name] for name in same} == {name: document[name] for name in same}
    assert [call["function"]["arguments"] for call in joined(streamed)["calls"]] == calls
    assert ChatResponse(**document).done_reason == ("length" if reason == "length" else "stop")


def test_a_text_is_a_response() -> None:
    events = [{"choices": [{"text": piece, "finish_reason": None}]} for piece in ("a", "b")]
    found = lines([*events, {"choices": [], "usage": USAGE}], answer.as_response)
    assert [line["response"] for line in found] == ["a", "b", ""]
    assert GenerateResponse(**found[-1]).eval_count == 7
    document = {"choices": [{"text": "ab", "finish_reason": "stop"}], "usage": USAGE}
    assert answer.document(told(answer.as_response), document)["response"] == "ab"


def test_engines_measure_or_it_is_measured_here() -> None:
    end = {"choices": [], "usage": USAGE}
    measured = lines([delta({"content": "a"}), {**end, "timings": TIMINGS}])[-1]
    assert (measured["prompt_eval_duration"], measured["eval_duration"]) == (2_500_000, 40_000_000)
    here = lines([delta({"content": "a"}), end])[-1]
    assert here["prompt_eval_duration"] == 1_000_000_000
    assert here["prompt_eval_duration"] + here["eval_duration"] == here["total_duration"]
    document = whole([delta({"content": "a"}, "stop"), end])
    assert document["eval_duration"] == document["total_duration"]
    assert "prompt_eval_duration" not in document


@pytest.mark.parametrize("written", ['{"a": ', "[]", "1", "nonsense"])
def test_a_call_that_is_none_is_text(written: str) -> None:
    events = [delta(call(0, name="f", arguments=written)), delta({}, "length")]
    assert joined(lines(events)) == joined([whole(events)])
    assert joined(lines(events)) == {"content": written, "thinking": "", "calls": []}


def test_calls_at_one_index_stay_apart() -> None:
    first, other = call(0, name="f", arguments="{}"), call(1, name="g", arguments='{"a":1}')
    other["tool_calls"][0]["index"] = 0
    found = joined(lines([delta(first), delta(other), delta({}, "tool_calls")]))["calls"]
    assert [each["function"]["name"] for each in found] == ["f", "g"]


def test_comments_keep_a_line_alive() -> None:
    reader = Lines(told(), LIMIT)
    found = reader.feed(sse.comment("keep-alive")) + reader.feed(sse.dump(delta({"content": "a"})))
    assert found.startswith(answer.KEEP_ALIVE)
    assert len(found.splitlines()) == 1
    assert orjson.loads(found)["message"]["content"] == "a"


def test_nothing_stands_behind_the_last_line() -> None:
    reader = Lines(told(), LIMIT)
    reader.feed(sse.dump({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    found = reader.feed(sse.DONE) + reader.feed(sse.comment("x-headrace-cached-tokens 5"))
    assert found.endswith(b"}\n")


def test_an_event_in_pieces_is_one_line() -> None:
    reader, event = Lines(told(), LIMIT), sse.dump(delta({"content": "a"}))
    assert not reader.feed(event[:9])
    assert len(reader.feed(event[9:]).splitlines()) == 1


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "gone", "code": "stream_interrupted"}},
        {"choices": [{"delta": 5}]},
        {"choices": {"a": 1}},
    ],
)
def test_an_error_is_the_last_line(event: dict[str, Any]) -> None:
    found = lines([delta({"content": "a"}), event, delta({"content": "b"})])
    assert [next(iter(line)) for line in found] == ["model", "error"]
    assert isinstance(found[-1]["error"], str)


def test_calls_have_a_limit() -> None:
    reader = Lines(told(), 10)
    found = reader.feed(sse.dump(delta(call(0, name="f", arguments='{"a": "' + "x" * 20))))
    assert orjson.loads(found)["code"] == "engine_failed"


def test_log_probabilities_of_chats_and_texts() -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    chat = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [token]}}]}
    assert lines([chat])[0]["logprobs"] == [token]
    columns = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1.0}]}
    text = {"choices": [{"text": "a", "logprobs": columns}]}
    likely = [{"token": "b", "logprob": -1.0}]
    found = [{"token": "a", "logprob": -0.5, "top_logprobs": likely}]
    assert lines([text], answer.as_response)[0]["logprobs"] == found


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_vectors_have_length_one(vector: list[float]) -> None:
    length = math.hypot(*answer.normal(vector))
    assert length == pytest.approx(1, abs=1e-3) or not any(abs(each) > 1e-150 for each in vector)


def test_vectors_are_in_the_order_of_the_inputs() -> None:
    rows = [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 0.0]}]
    found = answer.embedded("m", Watch(lambda: 0.0), {"data": rows, "usage": {"prompt_tokens": 4}})
    assert found["embeddings"] == [[1.0, 0.0], [0.0, 1.0]]
    assert (found["prompt_eval_count"], "eval_count" in found) == (4, False)


def test_errors_are_one_text() -> None:
    found = orjson.loads(answer.API.error_document({"message": "no", "param": "a"}, 400, "r"))
    assert found == {"error": "no", "param": "a"}
