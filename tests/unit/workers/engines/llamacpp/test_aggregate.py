"""The streams in `data/` were recorded of llama.cpp b11549, each beside the document that it
answered the same request with when not asked to stream."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.llamacpp import DATA
from workers.engines.llamacpp.aggregate import (
    Aggregate,
    StreamCut,
    StreamFault,
    Usage,
    last_usage,
    prepare,
)

CASES = sorted(path.stem for path in DATA.glob("*.sse") if path.with_suffix(".json").exists())
# Where the engine's own document counts choice 0 alone.
ALL_CHOICES = {
    "n2": Usage(prompt=34, completion=8, cached=0),
    "text_prompts": Usage(prompt=2 + 5, completion=4 * 3, cached=0),
}
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def recorded(case: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """(request, the engine's document, the engine's stream)"""
    case_ = orjson.loads((DATA / f"{case}.json").read_bytes())
    return case_["request"], case_["answer"], (DATA / f"{case}.sse").read_bytes()


def aggregated(stream: bytes, body: dict[str, Any] | None = None) -> Any:
    aggregate = Aggregate(body or {})
    aggregate.feed(stream)
    return orjson.loads(aggregate.result())


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """`document` without what two runs of one request never have in common."""
    out = copy.deepcopy(document)
    del out["id"], out["created"]
    out["timings"] = {k: v for k, v in out["timings"].items() if "_ms" not in k and "per_" not in k}
    for choice in out["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            assert call.pop("id")
    return out


@pytest.mark.parametrize("case", CASES)
def test_equals_the_engines_document(case: str) -> None:
    body, answer, stream = recorded(case)
    expected = timeless(answer)
    if total := ALL_CHOICES.get(case):
        expected["usage"] = {
            "completion_tokens": total.completion,
            "prompt_tokens": total.prompt,
            "total_tokens": total.prompt + total.completion,
            "prompt_tokens_details": {"cached_tokens": total.cached},
        }

    assert timeless(aggregated(stream, body)) == expected


@pytest.mark.parametrize("case", CASES)
def test_reports_usage(case: str) -> None:
    body, answer, stream = recorded(case)
    aggregate = Aggregate(body)
    assert aggregate.usage() is None

    aggregate.feed(stream)

    told = answer["usage"]
    expected = ALL_CHOICES.get(case) or Usage(told["prompt_tokens"], told["completion_tokens"], 0)
    assert aggregate.usage() == expected
    assert last_usage(stream, body.get("n", 1)) == expected


@given(case=st.sampled_from(CASES), cuts=st.lists(st.integers(0, 8000), max_size=40))
def test_bytes_may_be_cut_anywhere(case: str, cuts: list[int]) -> None:
    body, _, stream = recorded(case)
    aggregate = Aggregate(body)

    for start, stop in itertools.pairwise([0, *sorted(cuts), len(stream)]):
        aggregate.feed(stream[start:stop])

    assert orjson.loads(aggregate.result()) == aggregated(stream, body)


def spoken(text: str, created: int, **fields: object) -> bytes:
    """A chunk of text as llama-server writes it."""
    choice = {"finish_reason": None, "index": 0, "delta": {"content": text}, **fields}
    chunk = {"choices": [choice], "created": created, "object": "chat.completion.chunk"}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


@given(
    said=st.lists(st.tuples(st.text(max_size=6), st.integers(1, 2), st.booleans()), min_size=1),
    cuts=st.lists(st.integers(0, 4000), max_size=20),
)
def test_no_text_is_lost_and_none_added(said: list[tuple[str, int, bool]], cuts: list[int]) -> None:
    chunks = [
        spoken(text, created, logprobs={"content": [text]}) if odd else spoken(text, created)
        for text, created, odd in said
    ]
    stream = b"".join(chunks) + DONE
    aggregate = Aggregate({})

    for start, stop in itertools.pairwise([0, *sorted(cuts), len(stream)]):
        aggregate.feed(stream[start:stop])

    (choice,) = orjson.loads(aggregate.result())["choices"]
    assert choice["message"]["content"] == "".join(text for text, _, _ in said)
    told = choice.get("logprobs", {}).get("content", [])
    assert told == [text for text, _, odd in said if odd]


def test_tool_calls_are_merged_by_index() -> None:
    _, _, stream = recorded("tools")
    message = aggregated(stream)["choices"][0]["message"]

    assert message["content"] == ""
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"name": "get_time", "arguments": '{"city": "Paris"}'},
    ]
    assert all(set(call) == {"id", "type", "function"} for call in message["tool_calls"])


def test_a_tool_calls_name_is_whole_each_time() -> None:
    stream = (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":'
        b'{"name":"get","arguments":""}}]}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":'
        b'{"name":"f","arguments":"{}"}},{"index":1,"function":{"name":"get_time","arguments":"["'
        b"}}]}}]}\n\n"
    )
    calls = aggregated(stream + CHUNK + DONE)["choices"][0]["message"]["tool_calls"]

    assert calls == [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "function": {"name": "get_time", "arguments": "["}},
    ]


def test_unknown_fields_are_kept_and_the_last_wins() -> None:
    stream = (
        b'data: {"choices":[{"index":0,"delta":{"new":"x"},"odd":1}],"top":[1],"kept":true}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"new":"y"},"odd":2}],"top":[2]}\n\n'
    )
    document = aggregated(stream + DONE)

    assert document["top"] == [2]
    assert document["kept"] is True
    assert document["choices"][0]["odd"] == 2
    assert document["choices"][0]["message"]["new"] == "y"


def test_prompt_progress_belongs_to_streams_alone() -> None:
    _, _, stream = recorded("emoji")

    assert b"prompt_progress" in stream
    assert "prompt_progress" not in aggregated(stream)


def test_comments_carriage_returns_and_null_events_are_passed_over() -> None:
    stream = b": ping\n\ndata: null\n\n" + (CHUNK + DONE).replace(b"\n", b"\r\n") + b"data: rubbish"

    assert aggregated(stream)["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize("size", [0, 1, len(CHUNK), len(CHUNK + DONE) - 4])
def test_a_stream_without_its_end_is_cut(size: int) -> None:
    aggregate = Aggregate({})
    aggregate.feed((CHUNK + DONE)[:size])

    assert not aggregate.done
    with pytest.raises(StreamCut):
        aggregate.result()


@pytest.mark.parametrize(
    "event", [b"{", b"[1]", b'"x"', b'{"choices":[1]}', b'{"choices":[{"delta":[1]}]}', b"\xff"]
)
def test_what_is_no_chunk_cuts_the_stream(event: bytes) -> None:
    with pytest.raises(StreamCut):
        Aggregate({}).feed(b"data: " + event + b"\n\n")


def test_nothing_but_an_end_is_no_answer() -> None:
    with pytest.raises(StreamCut):
        aggregated(DONE)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"code":500,"message":"Context size has been exceeded."}}\n\n',
        b'error: {"code":500,"message":"Context size has been exceeded."}\n\n',
        b'error: {"error":{"code":500,"message":"Context size has been exceeded."}}\n\n',
    ],
)
def test_an_error_inside_the_stream_is_the_engines_error(event: bytes) -> None:
    aggregate = Aggregate({})
    aggregate.feed(CHUNK)

    with pytest.raises(StreamFault, match="Context size") as caught:
        aggregate.feed(event)

    assert caught.value.error == {"code": 500, "message": "Context size has been exceeded."}


def test_an_error_may_be_a_mere_string() -> None:
    with pytest.raises(StreamFault) as caught:
        Aggregate({}).feed(b'data: {"error":"broken"}\n\n')

    assert caught.value.error == {"message": "broken"}


def test_prepare_asks_for_a_stream_with_usage_and_changes_nothing_else() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "n": 2, "odd": {"a": [1]}}
    before = copy.deepcopy(body)

    sent = prepare(body)

    assert sent == {**before, "stream": True, "stream_options": {"include_usage": True}}
    assert body == before


@pytest.mark.parametrize("options", [None, "x", {}, {"include_usage": False}])
def test_prepare_overrules_the_clients_stream_options(options: object) -> None:
    assert prepare({"stream_options": options})["stream_options"] == {"include_usage": True}
    assert prepare({"stream_options": {"a": 1}})["stream_options"]["a"] == 1


@pytest.mark.parametrize(
    ("messages", "echo"),
    [
        ([{"role": "user"}, {"role": "assistant"}], True),
        ([{"role": "assistant"}, {"role": "user"}], None),
        ([], None),
        ("x", None),
        (["x"], None),
    ],
)
def test_prepare_lets_the_engine_repeat_a_prefilled_message(
    messages: object, echo: bool | None
) -> None:
    assert prepare({"messages": messages}).get("echo") is echo


def test_usage_without_a_report_is_taken_from_the_timings() -> None:
    stream = (DATA / "chat_without_usage.sse").read_bytes()

    assert b'"usage"' not in stream
    assert last_usage(stream) == Usage(prompt=34, completion=6, cached=0)
    assert last_usage(stream[-900:]) == Usage(prompt=34, completion=6, cached=0)
    assert aggregated(stream)["usage"]["total_tokens"] == 40


def test_last_usage_counts_what_was_cached() -> None:
    tail = (
        b'ings":{"cache_n":1}}\n\ndata: {"choices":[{"index":0,"delta":{}}],"timings":'
        b'{"cache_n":31,"prompt_n":1,"predicted_n":8}}\n\ndata: [DONE]\n\n'
    )
    assert last_usage(tail) == Usage(prompt=32, completion=8, cached=31)


@pytest.mark.parametrize("tail", [b"", b"data: [DONE]", CHUNK, b'data: {"usage":', b"\xff\n\n"])
def test_last_usage_is_none_when_nothing_is_told(tail: bytes) -> None:
    assert last_usage(tail) is None


def test_one_report_for_several_choices_is_not_divided() -> None:
    report = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":20}}\n\n'

    assert last_usage(report, n=2) == Usage(prompt=9, completion=20, cached=0)
    assert aggregated(CHUNK + report + DONE, {"n": 2})["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 20,
    }
