"""What asks for nothing, and what is said oddly, in requests to each endpoint."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api import plain
from schemas.api.endpoints import BY_WORD
from schemas.errors import InvalidRequest
from tests.unit.schemas.api.test_requests import (
    ANTHROPIC_TOOL,
    FLAT_TOOL,
    GOOD,
    JSON,
    PASSING,
    TOOL,
    USER,
    called,
    read,
    refused,
)

SPEECH = {"input": "hi", "voice": "v"}
REQUESTS: dict[str, dict[str, Any]] = {
    **{kind: good for kind, (_, good) in GOOD.items() if kind != "count"},
    "count_tokens": GOOD["count"][1],
    "input_tokens": {"input": "hi"},
    "speech": SPEECH,
    "images": {"prompt": "a cat"},
    "transcriptions": {},
}
"""A good request for each endpoint, by its word."""
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1.0, None], "default": None}}}


def bytes_of(word: str, change: dict[str, Any]) -> tuple[bytes, bytes]:
    """A request's bytes, and those that are passed on."""
    body = json.dumps({**REQUESTS[word], **change}).encode()
    return body, BY_WORD[word].shape.read(body)[1]


# Nulls.

NULLABLE = [
    (word, name)
    for word, request in REQUESTS.items()
    for name in sorted(BY_WORD[word].shape.names - request.keys())
]


@pytest.mark.parametrize(("word", "name"), NULLABLE)
def test_a_field_that_is_null_is_as_absent(word: str, name: str) -> None:
    _, passed = bytes_of(word, {name: None})
    assert orjson.loads(passed) == REQUESTS[word]


NESTED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("chat", {"stream_options": {"include_usage": None}}, {"stream_options": {}}),
    ("chat", {"messages": [{**USER, "name": None, "tool_calls": None}]}, {"messages": [USER]}),
    (
        "chat",
        {"tools": [{**TOOL, "function": {**TOOL["function"], "strict": None}}]},  # type: ignore[dict-item]
        {"tools": [TOOL]},
    ),
    (
        "chat",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "x", "detail": None}},
                        {"type": "text", "text": "x", "cache_control": None},
                    ],
                }
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "x"}},
                        {"type": "text", "text": "x"},
                    ],
                }
            ]
        },
    ),
    (
        "responses",
        {"text": {"format": None, "verbosity": None}, "reasoning": {"effort": None}},
        {"text": {}, "reasoning": {}},
    ),
    ("responses", {"tools": [{**FLAT_TOOL, "strict": None}]}, {"tools": [FLAT_TOOL]}),
    ("messages", {"tools": [{**ANTHROPIC_TOOL, "description": None}]}, {"tools": [ANTHROPIC_TOOL]}),
    ("messages", {"thinking": {"type": "x", "budget_tokens": None}}, {"thinking": {"type": "x"}}),
    ("messages", {"output_config": {"format": None}}, {"output_config": {}}),
]


@pytest.mark.parametrize(("word", "change", "plainly"), NESTED)
def test_so_is_one_within_a_field(
    word: str, change: dict[str, Any], plainly: dict[str, Any]
) -> None:
    _, passed = bytes_of(word, change)
    assert orjson.loads(passed) == {**REQUESTS[word], **plainly}


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("chat", {"grammar": None, "own": {"a": None}}),
        ("chat", called()),
        (
            "chat",
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
        ),
        ("chat", {"response_format": {"type": "json_object", "schema": SCHEMA}}),
        (
            "chat",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        ),
        (
            "chat",
            {"response_format": {"type": "structural_tag", "format": {"json_schema": SCHEMA}}},
        ),
        ("chat", {"metadata": {"a": None}}),
        ("responses", {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}),
        ("responses", {"tools": [{**FLAT_TOOL, "parameters": SCHEMA}]}),
        ("messages", {"tools": [{**ANTHROPIC_TOOL, "input_schema": SCHEMA}]}),
        (
            "messages",
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": None}}
                        ],
                    }
                ]
            },
        ),
    ],
)
def test_a_null_that_means_something_stays(word: str, change: dict[str, Any]) -> None:
    body, passed = bytes_of(word, change)
    assert passed == body


@pytest.mark.parametrize(
    ("word", "name"),
    [("chat", "messages"), ("completions", "prompt"), ("messages", "model"), ("speech", "voice")],
)
def test_a_field_that_must_be_there_must_not_be_null(word: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match="Missing required parameter") as caught:
        bytes_of(word, {name: None})
    assert caught.value.param == name


# Numbers.

INTEGERS = [
    *(("chat", name) for name in ("max_tokens", "max_completion_tokens", "n", "seed")),
    *(("completions", name) for name in ("max_tokens", "n", "best_of", "seed", "logprobs")),
    *(("responses", name) for name in ("max_output_tokens", "top_logprobs", "max_tool_calls")),
    *(("messages", name) for name in ("max_tokens", "top_k")),
    ("embeddings", "dimensions"),
    ("rerank", "top_n"),
    *(("images", name) for name in ("n", "seed", "output_compression", "partial_images")),
]


@pytest.mark.parametrize(("word", "name"), INTEGERS)
@pytest.mark.parametrize("written", ["2.0", "2e0", "0.2E1"])
def test_a_whole_number_is_an_integer_however_it_is_written(
    word: str, name: str, written: str
) -> None:
    body = json.dumps({**REQUESTS[word], name: 7777}).replace("7777", written).encode()
    found, passed = BY_WORD[word].shape.read(body)
    assert (type(found[name]), found[name]) == (int, 2)
    assert orjson.loads(passed) == found
    assert b'"%b":2' % name.encode() in passed
    with pytest.raises(InvalidRequest) as caught:
        BY_WORD[word].shape.read(body.replace(written.encode(), b"2.5"))
    assert caught.value.param == name


@pytest.mark.parametrize("zero", [0, 0.0])
def test_a_best_of_none_is_as_absent(zero: float) -> None:
    assert "best_of" not in orjson.loads(bytes_of("completions", {"best_of": zero})[1])
    with pytest.raises(InvalidRequest):
        bytes_of("completions", {"best_of": False})


def test_within_an_object_and_in_lists_of_tokens() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024.0}
    assert b'"budget_tokens":1024}' in bytes_of("messages", {"thinking": thinking})[1]
    vast = {"type": "enabled", "budget_tokens": 1e308}  # no JSON here has such an integer
    with pytest.raises(InvalidRequest):
        bytes_of("messages", {"thinking": vast})
    for word, name in (("completions", "prompt"), ("embeddings", "input")):
        assert b":[1,2]" in bytes_of(word, {name: [1.0, 2]})[1]
        assert b":[[1],[2]]" in bytes_of(word, {name: [[1], [2.0]]})[1]
        with pytest.raises(InvalidRequest):
            bytes_of(word, {name: [1.5]})


WORDS = {"content": [{"type": "text", "text": "hello "}, {"type": "text", "text": "world"}]}


@pytest.mark.parametrize(
    ("given_", "told"),
    [(WORDS, "hello world"), (["a", WORDS, [1, 2]], ["a", "hello world", [1, 2]])],
)
def test_an_input_in_parts_is_its_text(given_: Any, told: Any) -> None:
    assert orjson.loads(bytes_of("embeddings", {"input": given_})[1])["input"] == told


@pytest.mark.parametrize(
    "given_",
    [{"content": "a"}, {"content": []}, {"content": [{"type": "odd"}]}, {**WORDS, "odd": 1}],
)
def test_an_input_in_parts_that_are_no_texts_is_refused(given_: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        bytes_of("embeddings", {"input": [given_]})
    assert caught.value.param == "input[0].prompt_string"


def test_a_number_that_may_be_a_fraction_stays() -> None:
    body, passed = bytes_of("chat", {"temperature": 1.0, "top_p": 1.0})
    assert passed == body


# Stops.


@pytest.mark.parametrize("word", ["chat", "completions", "responses"])
@pytest.mark.parametrize(
    ("stop", "kept"), [("", None), ([""], None), ([], None), (["a", "", "b"], ["a", "b"])]
)
def test_a_stop_that_is_empty_is_none(word: str, stop: Any, kept: Any) -> None:
    _, passed = bytes_of(word, {"stop": stop})
    assert orjson.loads(passed) == {**REQUESTS[word], **({"stop": kept} if kept else {})}


@pytest.mark.parametrize("stop", ["a", " ", ["\n", "b"]])
def test_another_stop_stays(stop: Any) -> None:
    body, passed = bytes_of("chat", {"stop": stop})
    assert passed == body


# Limits and formats.


@pytest.mark.parametrize(
    ("older", "newer", "kept"),
    [
        (2, 100, {"max_completion_tokens": 100}),
        (100, 2, {"max_completion_tokens": 2}),
        (-1, 9, {"max_completion_tokens": 9}),
        (9, -1, {"max_tokens": 9}),
        (9.0, 2.0, {"max_completion_tokens": 2}),
    ],
)
def test_of_two_limits_the_newer_one_counts(
    older: float, newer: float, kept: dict[str, int]
) -> None:
    _, passed = bytes_of("chat", {"max_tokens": older, "max_completion_tokens": newer})
    assert orjson.loads(passed) == {**REQUESTS["chat"], **kept}


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({}, {"name": "answer"}),
        ({"name": "x", "strict": True}, {"name": "x", "strict": True}),
    ],
)
def test_a_schema_beside_its_type_is_put_where_chats_have_it(
    beside: dict[str, Any], told: dict[str, Any]
) -> None:
    given_ = {"type": "json_schema", "schema": SCHEMA, **beside}
    wanted = orjson.loads(bytes_of("chat", {"response_format": given_})[1])["response_format"]
    assert wanted == {"type": "json_schema", "json_schema": {**told, "schema": SCHEMA}}


# Histories.

ARGUMENTS: list[tuple[Any, str]] = [
    ("", "{}"),
    (" \n", "{}"),
    (None, "{}"),
    ("null", "{}"),
    ({"a": 1}, '{"a":1}'),
    ("{", '{"arguments":"{"}'),
    ('{"a":1}}', '{"arguments":"{\\"a\\":1}}"}'),
    ('{"a": NaN}', '{"arguments":"{\\"a\\": NaN}"}'),
    ("[1]", '{"arguments":[1]}'),
    ('"x"', '{"arguments":"x"}'),
    ("5", '{"arguments":5}'),
    ([1], '{"arguments":[1]}'),
]


@pytest.mark.parametrize(("given_", "told"), ARGUMENTS)
def test_arguments_of_an_earlier_call_are_an_object(given_: Any, told: str) -> None:
    chat = read("chat", called(function={"name": "f", "arguments": given_}))
    assert chat["messages"][0]["tool_calls"][0]["function"]["arguments"] == told
    item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": given_}
    assert read("responses", {"input": [item]})["input"][0]["arguments"] == told
    use = {"type": "tool_use", "id": "c", "name": "f", "input": given_}
    said = {"messages": [{"role": "assistant", "content": [use]}]}
    for kind in ("messages", "count"):
        block = read(kind, said)["messages"][0]["content"][0]
        assert orjson.dumps(block["input"]).decode() == told


@pytest.mark.parametrize("before", ["", " " * 2**17], ids=["short", "long"])
def test_arguments_too_deep_to_be_written_stay_a_text(before: str) -> None:
    deep = before + '{"a":' * 300 + "1" + "}" * 300
    use = {"type": "tool_use", "id": "c", "name": "f", "input": deep}
    found = read("messages", {"messages": [{"role": "assistant", "content": [use]}]})
    assert found["messages"][0]["content"][0]["input"] == {"arguments": deep}
    deep = before + "[" * 300 + "]" * 300
    chat = read("chat", called(function={"name": "f", "arguments": deep}))
    told = chat["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert orjson.loads(told) == {"arguments": deep.strip()}


def test_words_of_a_schema_that_are_null_are_as_absent() -> None:
    given_ = {"type": "object", "properties": None, "required": None, "default": None}
    inner = {"enum": None, "description": None, "const": None}
    tool = {"name": "f", "input_schema": {**given_, "items": inner}}
    found = read("messages", {"tools": [tool]})
    kept = {"type": "object", "default": None, "items": {"const": None}}
    assert found["tools"][0]["input_schema"] == kept


@pytest.mark.parametrize("text", ["{}", ' {"a": [1.0, null]}\n', '{"\\u0061":{}}'])
def test_arguments_that_are_an_object_stay_as_they_are(text: str) -> None:
    change = called(function={"name": "f", "arguments": text})
    body, passed = bytes_of("chat", change)
    assert passed == body


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def part(kind: str, text: str = "x") -> dict[str, Any]:
    return {"type": kind, "refusal" if kind == "refusal" else "text": text}


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "x"}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (said([part("text"), part("refusal", "no")]), said([part("text"), part("text", "no")])),
        (said([part("output_text")]), said([part("text")])),
        (
            {"role": "user", "content": [part("input_text")]},
            {"role": "user", "content": [part("text")]},
        ),
        (said([THOUGHT, part("text")]), said([part("text")])),
        (said([THOUGHT]), said("")),
        (said([THOUGHT, USE], tool_calls=CALLS), said("", tool_calls=CALLS)),
        (said(None), said("")),
        ({"role": "assistant"}, said("")),
        (said(None, refusal="no"), said("no", refusal="no")),
        (said(None, tool_calls=[]), said("", tool_calls=[])),
        ({"role": "tool", "content": []}, {"role": "tool", "content": ""}),
        ({"role": "tool", "content": None}, {"role": "tool", "content": ""}),
        ({"role": "tool"}, {"role": "tool", "content": ""}),
        ({"role": "user", "content": None}, {"role": "user", "content": ""}),
        ({"role": "system", "content": None}, {"role": "system", "content": ""}),
        (said("", tool_calls=[{**CALLS[0], "type": None}]), said("", tool_calls=CALLS)),
        (
            said("", tool_calls=[{"id": "c", "function": CALLS[0]["function"]}]),
            said("", tool_calls=CALLS),
        ),
        ({"role": "developer", "content": []}, {"role": "developer", "content": ""}),
    ],
)
def test_a_message_of_a_chat_is_said_in_the_usual_way(
    message: dict[str, Any], told: dict[str, Any]
) -> None:
    assert read("chat", {"messages": [message, USER]})["messages"] == [told, USER]


@pytest.mark.parametrize(
    "message",
    [
        said("", tool_calls=CALLS),
        said(None, tool_calls=CALLS),
        {"role": "assistant", "tool_calls": CALLS},
        said([part("text")]),
        {"role": "tool", "content": [part("text")], "tool_call_id": "c"},
        {"role": "tool", "content": ""},
        {"role": "developer", "content": "x"},
    ],
)
def test_a_message_that_every_engine_takes_stays(message: dict[str, Any]) -> None:
    body, passed = bytes_of("chat", {"messages": [message, USER]})
    assert passed == body


def test_functions_are_tools() -> None:
    called_ = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "f", "arguments": ""},
    }
    result = {"role": "function", "name": "f", "content": "5"}
    first, second, third, *rest = read("chat", {"messages": [USER, called_, result]})["messages"]
    assert first == USER
    (call,) = second.pop("tool_calls")
    assert second == {"role": "assistant", "content": None}
    assert call["function"] == {"name": "f", "arguments": "{}"}
    assert third == {"role": "tool", "name": "f", "content": "5", "tool_call_id": call["id"]}
    assert not rest


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (
            said([part("output_text"), part("refusal", "no")]),
            said([part("output_text"), part("output_text", "no")]),
        ),
        (said([part("input_text"), part("text")]), said([part("output_text")] * 2)),
        (
            {"role": "user", "content": [part("text"), part("output_text")]},
            {"role": "user", "content": [part("input_text")] * 2},
        ),
        (said([]), said("")),
        (said(None), said("")),
        (
            {"type": "function_call_output", "call_id": "c", "output": None},
            {"type": "function_call_output", "call_id": "c", "output": ""},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": [part("output_text")]},
            {"type": "function_call_output", "call_id": "c", "output": [part("input_text")]},
        ),
    ],
)
def test_an_item_of_a_response_is_said_in_the_usual_way(
    item: dict[str, Any], told: dict[str, Any]
) -> None:
    assert read("responses", {"input": [item, USER]})["input"] == [told, USER]


# All of it.


@pytest.mark.parametrize(("kind", "change"), PASSING)
def test_what_is_plain_keeps_its_bytes(kind: str, change: dict[str, Any]) -> None:
    shape, good = GOOD[kind]
    body = json.dumps({**good, **change}).encode()
    assert shape.read(body)[1] is body


@given(st.sampled_from(sorted(REQUESTS)), st.data())
def test_what_was_made_plain_is_plain(word: str, data: st.DataObject) -> None:
    shape = BY_WORD[word].shape
    name = data.draw(st.sampled_from(sorted(shape.names)))
    body = json.dumps({**REQUESTS[word], name: data.draw(JSON)}).encode()
    try:
        found, passed = shape.read(body)
    except InvalidRequest:
        return
    assert orjson.loads(passed) == found
    assert shape.read(passed)[1] is passed


@given(JSON)
def test_what_is_within_a_schema_or_a_call_stays(value: Any) -> None:
    inner = {"enum": [value], "default": value, "const": None}
    asked = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": inner}}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": inner}},
        "messages": [called(function={"name": "f", "arguments": {"x": inner}})["messages"][0]],
        "n": None,
    }
    before = copy.deepcopy(asked)
    assert plain.without_nulls(asked, frozenset(asked))
    del before["n"]
    assert asked == before


@given(JSON)
def test_any_arguments_become_an_object(value: Any) -> None:
    """Integers as the parser of bodies gives them: those of more than 64 bits are floats."""
    written = json.dumps(value)
    for given_ in (json.loads(written, parse_int=orjson.loads), written):
        told = plain.arguments(given_)
        assert isinstance(json.loads(told), dict)
        assert plain.arguments(told) == told


def test_the_fault_that_stays_is_the_one_that_is_told() -> None:
    assert refused("chat", {"n": 2.0, "temperature": 9}).param == "temperature"
